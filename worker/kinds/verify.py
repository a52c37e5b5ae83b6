"""verify: an uploaded checkpoint, or weights that a library publishes, become a model."""

import statistics
from pathlib import Path
from typing import Any

from kdcore.protocol.requests import VerifyRequest
from kdcore.schema.catalog import architectures
from store.database import transaction
from store.tables import Job, Model, Upload
from worker.files.run_uploads import upload_asset
from worker.kinds.base import (
    Inputs,
    KindHandler,
    Publication,
    ResultRejectedError,
    fetch_upload,
    untrusted_input_limits,
)
from worker.run_result import EngineOutputs

_OPTIONS = ("key_map", "weights")
_INFERRED = ("architecture", "num_classes", "in_channels", "num_params")


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """The checkpoint with what was declared of it, or the name of pretrained weights."""
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
        upload = session.get(Upload, model.upload_id) if model.upload_id else None
    if upload is None:
        return Inputs(VerifyRequest(pretrained=model.source, limits=untrusted_input_limits()))
    options = {name: value for name, value in job.spec.items() if name in _OPTIONS and value}
    request = VerifyRequest(
        path=fetch_upload(upload.id, workdir),
        filename=upload.filename,
        architecture=model.architecture,
        num_classes=model.num_classes,
        limits=untrusted_input_limits(),
        **options,
    )
    return Inputs(request)


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Fields of the model's row: properties of its weights, and their object key.

    Raises ResultRejectedError where the declared normalization or class names do not fit the
    weights.
    """
    report = outputs.report or {}
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    if report.get("normalization") is not None:
        # Pretrained weights: everything is known of them, and the user may declare the license.
        fields = report | {"license": model.license or report["license"]}
    else:
        fields = {name: report[name] for name in _INFERRED}
        fields["normalization"] = _normalization(model, report)
        entry = architectures()[report["architecture"]]
        fields["input_size"] = model.input_size or entry.input_size
        fields["class_names"] = model.class_names or report.get("class_names")
        stated = report.get("reported_top1")
        fields["reported_top1"] = stated if model.reported_top1 is None else model.reported_top1
        _check_class_names(model, report["num_classes"])
    fields["warnings"] = [*model.warnings, *report.get("warnings", ())]
    if model.class_names is None and model.upload_id and fields["class_names"]:
        fields["warnings"].append("class_names are those in the checkpoint")
    return Publication(fields | upload_asset(job, outputs.artifacts[0], workdir, "models"))


def _normalization(model: Model, report: dict[str, Any]) -> dict[str, Any]:
    """The model's normalization for the number of channels that its weights have."""
    channels = report["in_channels"]
    default = architectures()[report["architecture"]].normalization.model_dump(mode="json")
    declared = model.normalization or default
    if len(declared["mean"]) == channels:
        return declared
    # The catalog's values are for color: a gray network takes the mean of the three channels.
    if declared != default or channels != 1:
        raise _rejection(
            "normalization",
            "normalization and network differ in the number of channels",
            "give one mean and one std for each channel that the network takes",
            f"has {len(declared['mean'])} values; the network takes {channels} channels",
        )
    return {name: [statistics.fmean(values)] for name, values in default.items()}


def _check_class_names(model: Model, num_classes: int) -> None:
    names = model.class_names
    if names is not None and len(names) != num_classes:
        raise _rejection(
            "class_names",
            f"the network has {num_classes} classes, but there are {len(names)} class_names",
            "give one name for each class, in the order of the logits",
            f"has {len(names)} entries; the network has {num_classes} classes",
        )


def _rejection(field: str, message: str, hint: str, detail: str) -> ResultRejectedError:
    return ResultRejectedError(
        {
            "code": "checkpoint_invalid",
            "message": message,
            "hint": hint,
            "retryable": False,
            "items": [{"name": field, "detail": detail}],
            "fix_fields": [field],
        }
    )


HANDLERS = (KindHandler("verify", load_inputs, publish),)
