"""Everything that a user downloads, written under ``artifacts/`` and told of once it is checked."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.model_card import model_card
from kdcore.export.model_card_text import render_model_card
from kdcore.models.normalized_model import NormalizedModel
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import atomic_write, sha256_of
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import EXPORTS, STUDENT_FILE
from kdcore.schema.report import Report
from kdcore.weights.safetensors_io import check_parity, write_safetensors


def write_checked_student(
    path: Path,
    weights: dict[str, Tensor],
    fresh: NormalizedModel,
    evaluator: Evaluator,
    logits: Tensor,
) -> float:
    """Write ``weights``, open them as a user would, compare on the test images.

    ``fresh`` is the architecture, whatever its weights; it is left on the bench's device.
    ``logits`` (N, C) are those of the student in memory. Returns the largest relative difference of
    a logit; raises ``ParityError`` and leaves no file where the two differ.
    """
    trial = path.with_name(f".{path.name}.unchecked")
    write_safetensors(trial, weights)
    try:
        fresh.network.load_state_dict(load_file(trial), strict=True)
        max_difference = check_parity(logits, evaluator.logits(fresh.to(evaluator.device)))
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return max_difference


def publish_artifacts(
    folder: Path,
    events: EventWriter,
    request: RunRequest,
    info: DatasetInfo,
    report: Report,
    normalization: Normalization,
) -> None:
    """Write configuration and card beside the exports that ``report`` names; tell of all of them.

    The student's safetensors file must be there.
    """
    config_values = student_config(request, info, normalization)
    card_values = model_card(request, info, report, sha256_of(folder / STUDENT_FILE), config_values)
    _write(folder / "config.json", _json(config_values))
    _write(folder / "model_card.json", _json(card_values))
    _write(folder / "model_card.md", render_model_card(card_values, report))
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
    """What the weights do not say: how to build the network and what to feed it.

    ``channels`` is the rule by which the data's images meet the network; null: as they are.
    """
    return {
        "architecture": request.job.student.network,
        "num_classes": len(info.classes),
        "in_channels": len(normalization.mean),
        "channels": request.job.student.channels,
        "input_size": _input_size(request, info),
        "normalization": normalization.model_dump(mode="json"),
        "classes": list(info.classes),
    }


def _input_size(request: RunRequest, info: DatasetInfo) -> int:
    """Students are trained at the data set's side; a model that is only evaluated keeps its own."""
    measured = request.init if request.job.kind == "evaluate" else None
    return info.image_size if measured is None else measured.input_size


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
