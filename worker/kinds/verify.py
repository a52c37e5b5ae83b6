"""verify: an uploaded checkpoint, or weights that a library publishes, become a model."""

import statistics
from pathlib import Path
from typing import Any

from kdcore.protocol.requests import VerifyRequest
from kdcore.schema.catalog import architectures
from store.database import transaction
from store.tables import Job, Model
from worker.files.uploads import upload_asset
from worker.kinds.base import (
    Inputs,
    KindHandler,
    Publication,
    ResultRejectedError,
    fetch_upload,
    untrusted_input_limits,
)
from worker.run_result import EngineOutputs

_NORMALIZATION_MISMATCH: dict[str, Any] = {
    "code": "checkpoint_invalid",
    "message": "normalization and network differ in the number of channels",
    "hint": "give one mean and one std for each channel that the network takes",
    "retryable": False,
    "items": [{"name": "normalization", "detail": "has another number of channels"}],
}


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """The checkpoint with its declared architecture, or the name of pretrained weights."""
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    if model.upload_id is None:
        return Inputs(VerifyRequest(pretrained=model.source, limits=untrusted_input_limits()))
    request = VerifyRequest(
        path=fetch_upload(model.upload_id, workdir),
        architecture=model.architecture,
        num_classes=model.num_classes,
        limits=untrusted_input_limits(),
    )
    return Inputs(request)


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Fields of the model's row: properties of its weights, and their object key.

    Raises ResultRejectedError where the declared normalization does not fit the weights.
    """
    report = outputs.report or {}
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    if report.get("normalization") is not None:
        # Pretrained weights: everything is known of them, and the user may declare the license.
        fields = report | {"license": model.license or report["license"]}
    else:
        fields = {name: report[name] for name in ("in_channels", "num_params")}
        fields["normalization"] = _normalization(model, report["in_channels"])
    return Publication(fields | upload_asset(job, outputs.artifacts[0], workdir, "models"))


def _normalization(model: Model, channels: int) -> dict[str, Any]:
    """The model's normalization for the number of channels that its weights have."""
    declared = model.normalization or {}
    if len(declared["mean"]) == channels:
        return declared
    # The catalog's values are for color: a gray network takes the mean of the three channels.
    default = architectures()[model.architecture].normalization.model_dump(mode="json")
    if declared != default or channels != 1:
        raise ResultRejectedError(_NORMALIZATION_MISMATCH)
    return {name: [statistics.fmean(values)] for name, values in default.items()}


HANDLERS = (KindHandler("verify", load_inputs, publish),)
