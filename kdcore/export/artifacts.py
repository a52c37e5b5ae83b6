"""Write the files that a user downloads to ``artifacts/``, with one event for each."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.model_card import model_card, render_model_card
from kdcore.models.normalized_model import NormalizedModel
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import PROGRAM_FORMATS, Normalization
from kdcore.schema.exports import EXPORTS, STUDENT_FILE
from kdcore.schema.report import Report
from kdcore.weights.safetensors_io import check_parity, write_safetensors


def write_checked_student(
    path: Path,
    weights: dict[str, Tensor],
    fresh: NormalizedModel,
    evaluator: Evaluator,
    logits: Tensor,
) -> tuple[Tensor, float]:
    """Write ``weights``, load the file as a user would, and compare logits on the test images.

    ``fresh`` is a network of the architecture, with any weights; it is moved to the evaluator's
    device. ``logits`` (N, C) are those of the student in memory. Returns the logits (N, C) of the
    file and the largest relative difference of a logit. Raises :class:`ParityError`, without a
    file, if they differ.
    """
    trial = path.with_name(f".{path.name}.unchecked")
    write_safetensors(trial, weights)
    try:
        fresh.network.load_state_dict(load_file(trial), strict=True)
        file_logits = evaluator.logits(fresh.to(evaluator.device))
        max_difference = check_parity(logits, file_logits)
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return file_logits, max_difference


def publish_artifacts(
    folder: Path,
    events: EventWriter,
    request: RunRequest,
    info: DatasetInfo,
    report: Report,
    normalization: Normalization,
) -> None:
    """Write the configuration and the model card, and emit an event for each exported file.

    The student's safetensors file must exist in ``folder``, unless a file defines the evaluated
    network: that file is not published again.
    """
    config_values = student_config(request, info, normalization)
    evaluated = request.init if request.job.student.architecture in PROGRAM_FORMATS else None
    sha256 = evaluated.sha256 if evaluated else sha256_of(folder / STUDENT_FILE)
    card_values = model_card(request, info, report, sha256, config_values)
    _write(folder / "config.json", _json(config_values))
    _write(folder / "model_card.json", _json(card_values))
    _write(folder / "model_card.md", render_model_card(card_values, report))
    if evaluated is None:
        events.artifact(
            folder / STUDENT_FILE, STUDENT_FILE, "safetensors", EXPORTS["safetensors"].media_type
        )
    for exports in (report.exports, report.ensemble_exports):
        for kind, export_evaluation in exports.items():
            if export_evaluation.file != STUDENT_FILE:
                events.artifact(
                    folder / export_evaluation.file,
                    export_evaluation.file,
                    kind,
                    EXPORTS[kind].media_type,
                )
    for name in ("config.json", "model_card.json"):
        events.artifact(folder / name, name, "json", "application/json")
    events.artifact(folder / "model_card.md", "model_card.md", "markdown", "text/markdown")


def student_config(
    request: RunRequest, info: DatasetInfo, normalization: Normalization
) -> dict[str, Any]:
    """Return ``config.json``: how to build the network and how to prepare its input.

    ``channels`` is the rule that converts images of other channels, or null. ``sixteen_bit_range``
    is the number of values of the data set's images with 16 bits, or null without such images.
    """
    return {
        "architecture": request.job.student.network,
        "num_classes": len(info.classes),
        "in_channels": len(normalization.mean),
        "channels": request.job.student.channels,
        "input_size": _input_size(request, info),
        "normalization": normalization.model_dump(mode="json"),
        "sixteen_bit_range": info.sixteen_bit_range,
        "classes": list(info.classes),
    }


def _input_size(request: RunRequest, info: DatasetInfo) -> int:
    """Return the data set's side, or the model's own if it was only evaluated."""
    measured = None if request.job.trains else request.init
    return info.image_size if measured is None else measured.input_size


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
