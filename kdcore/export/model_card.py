"""The model card: where a student comes from and what it is worth, as values for programs."""

from typing import Any

from kdcore.protocol.requests import RunRequest
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import architectures
from kdcore.schema.report import Report

INTENDED_USE = (
    "Meant for images like those of its training data, prepared as `config.json` says. It names "
    "one of the classes that it knows for every image, also for one that shows none of them."
)
LIMITATIONS = (
    "Measured on one test split, drawn like the training data: another source of images may give "
    "other numbers. Its probabilities are as calibrated as the calibration error says, no more.",
    "The accuracy of each class is in `model_card.json`: look there before one class matters more "
    "than another.",
    "Latency is that of the machine named here.",
)
TEACHER_LIMITATION = (
    "A student takes over its teacher's mistakes and biases with its knowledge; agreement counts "
    "both."
)
_NOT_METRICS = {"versions", "details", "device", "exports", "refused_exports", "ensemble_exports"}
_NOT_METRICS |= {"confusion", "disagreements"}


def model_card(
    request: RunRequest,
    info: DatasetInfo,
    report: Report,
    sha256: str,
    student_config: dict[str, Any],
) -> dict[str, Any]:
    """The card as JSON values.

    ``sha256`` is of the student's safetensors file; ``fed`` its ``config.json``.
    """
    job = request.job
    entry = architectures().get(job.student.architecture)
    return {
        "name": job.name,
        "architecture": job.student.network,
        "license": entry.license if entry else None,
        "student_sha256": sha256,
        "teachers": [
            {"architecture": t.architecture, "sha256": t.sha256, "weight": t.weight}
            for t in request.teachers
        ],
        "init_sha256": request.init.sha256 if request.init else None,
        "data": _data(info),
        "recipe": {
            "method": [method.model_dump(mode="json") for method in job.method],
            "label_weight": job.label_weight,
            "scheme": job.scheme.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
        "seed": job.seed,
        "device": report.device,
        "versions": report.versions,
        "intended_use": INTENDED_USE,
        "limits": [*LIMITATIONS, *([TEACHER_LIMITATION] if job.teachers else [])],
        "input": _input(student_config),
        "exports": _exports(report),
        "statement": report.seeds.statement,
        "metrics": report.model_dump(mode="json", exclude=_NOT_METRICS),
    }


def _input(student_config: dict[str, Any]) -> dict[str, Any]:
    return {
        "layout": "(batch, channels, height, width), float32",
        "channels": student_config["in_channels"],
        "size": student_config["input_size"],
        "scaled_to": [0, 1],
        **student_config["normalization"],
    }


def _data(info: DatasetInfo) -> dict[str, Any]:
    return {
        "digest": info.digest,
        "classes": list(info.classes),
        "split_seed": info.split_seed,
        "counts": {name: split.count for name, split in info.splits.items()},
    }


def _exports(report: Report) -> list[dict[str, Any]]:
    every = [*report.exports.items(), *report.ensemble_exports.items()]
    return [
        {"format": kind, **export_evaluation.model_dump(mode="json")}
        for kind, export_evaluation in every
    ]
