"""verify: an uploaded checkpoint, or weights that a library publishes, become a model."""

import statistics
from pathlib import Path
from typing import Any

from kdcore.protocol.requests import VerifyRequest
from kdcore.schema.catalog import PROGRAM_FORMATS, architectures
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

_MAX_LISTED = 5
_OPTIONS = ("key_map", "weights")
_DEFAULT_USED = ("normalization is missing:", "input_size is missing:")
"""Beginnings of warnings about defaults of an architecture, which a network from a file has not."""
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
        input_size=model.input_size if model.architecture not in architectures() else None,
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
    if model.upload_id is None:
        # Pretrained weights: everything is known of them, and the user may declare the license.
        fields = report | {"license": model.license or report["license"]}
    else:
        fields = {name: report[name] for name in _INFERRED}
        fields["normalization"] = _normalization(model, report)
        fields["input_size"] = _input_size(model, report)
        fields["outputs"] = report.get("outputs")
        # A network's file, or the request, has its input size; no default is assumed.
        from_file = report["architecture"] in PROGRAM_FORMATS
        fields["input_size_declared"] = model.input_size_declared or from_file
        in_file = report.get("normalization") is not None
        fields["normalization_declared"] = model.normalization_declared or in_file
        fields["class_names"] = model.class_names or report.get("class_names")
        stated = report.get("reported_top1")
        fields["reported_top1"] = stated if model.reported_top1 is None else model.reported_top1
        _check_class_names(model, report["num_classes"])
    fields["warnings"] = [*_request_warnings(model, report), *report.get("warnings", ())]
    stored_names = report.get("class_names")
    if model.upload_id and stored_names and model.class_names is None:
        fields["warnings"].append("class_names are those in the checkpoint")
    elif model.upload_id and stored_names and list(stored_names) != list(model.class_names or ()):
        fields["warnings"].append(
            "class_names are those of the request; the checkpoint has others, or another order: "
            + ", ".join(stored_names[:_MAX_LISTED])
        )
    return Publication(fields | upload_asset(job, outputs.artifacts[0], workdir, "models"))


def _normalization(model: Model, report: dict[str, Any]) -> dict[str, Any]:
    """The model's normalization for the number of channels that its weights have."""
    channels = report["in_channels"]
    if report["architecture"] in PROGRAM_FORMATS:
        unchanged = {"mean": [0.0] * channels, "std": [1.0] * channels}
        declared = model.normalization or report["normalization"] or unchanged
        _check_channels(declared, channels)
        return declared
    default = architectures()[report["architecture"]].normalization.model_dump(mode="json")
    declared = model.normalization or default
    if len(declared["mean"]) == channels:
        return declared
    # The catalog's values are for color: a gray network takes the mean of the three channels.
    if declared != default or channels != 1:
        _check_channels(declared, channels)
    return {name: [statistics.fmean(values)] for name, values in default.items()}


def _check_channels(declared: dict[str, Any], channels: int) -> None:
    if len(declared["mean"]) != channels:
        raise _rejection(
            "normalization",
            "normalization and network differ in the number of channels",
            "give one mean and one std for each channel that the network takes",
            f"has {len(declared['mean'])} values; the network takes {channels} channels",
        )


def _input_size(model: Model, report: dict[str, Any]) -> int:
    entry = architectures().get(report["architecture"])
    size: int = report["input_size"] if entry is None else model.input_size or entry.input_size
    return size


def _request_warnings(model: Model, report: dict[str, Any]) -> list[str]:
    """The warnings about fields that the request leaves out."""
    warnings: list[str] = list(model.warnings)
    if report["architecture"] not in PROGRAM_FORMATS:
        return warnings
    warnings = [warning for warning in warnings if not warning.startswith(_DEFAULT_USED)]
    if model.normalization is None and report["normalization"] is None:
        warnings.append(
            "normalization is missing in the request and in the file: the network gets pixels from "
            "0 to 1 as they are; a wrong value makes the teacher inaccurate"
        )
    return warnings


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
