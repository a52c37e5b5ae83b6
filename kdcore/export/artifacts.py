"""Everything that a user downloads, written under ``artifacts/`` and told of once it is checked."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kdcore.evaluation.report_builder import TestBench
from kdcore.export.model_card import card
from kdcore.export.model_card_text import as_markdown
from kdcore.models.normalized_model import Normalised
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import replacing, sha256_of
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import Normalisation
from kdcore.schema.exports import EXPORTS, STUDENT
from kdcore.schema.report import Report
from kdcore.weights.safetensors_io import check_parity, write


def checked_student(
    path: Path, weights: dict[str, Tensor], fresh: Normalised, bench: TestBench, logits: Tensor
) -> float:
    """Write ``weights``, open them as a user would, compare on the test images.

    ``fresh`` is the architecture, whatever its weights; it is left on the bench's device.
    ``logits`` (N, C) are those of the student in memory. Returns the largest relative difference of
    a logit; raises ``ParityError`` and leaves no file where the two differ.
    """
    trial = path.with_name(f".{path.name}.unchecked")
    write(trial, weights)
    try:
        fresh.network.load_state_dict(load_file(trial), strict=True)
        gap = check_parity(logits, bench.logits(fresh.to(bench.device)))
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return gap


def publish(
    folder: Path,
    events: EventWriter,
    request: RunRequest,
    info: DatasetInfo,
    report: Report,
    normalisation: Normalisation,
) -> None:
    """Write configuration and card beside the exports that ``report`` names; tell of all of them.

    The student's safetensors file must be there.
    """
    fed = config(request, info, normalisation)
    told = card(request, info, report, sha256_of(folder / STUDENT), fed)
    _write(folder / "config.json", _json(fed))
    _write(folder / "model_card.json", _json(told))
    _write(folder / "model_card.md", as_markdown(told, report))
    events.artifact(folder / STUDENT, STUDENT, "safetensors", EXPORTS["safetensors"].media_type)
    for exports in (report.exports, report.ensemble_exports):
        for kind, made in exports.items():
            if made.file != STUDENT:
                events.artifact(folder / made.file, made.file, kind, EXPORTS[kind].media_type)
    for name in ("config.json", "model_card.json"):
        events.artifact(folder / name, name, "json", "application/json")
    events.artifact(folder / "model_card.md", "model_card.md", "markdown", "text/markdown")


def config(request: RunRequest, info: DatasetInfo, normalisation: Normalisation) -> dict[str, Any]:
    """What the weights do not say: how to build the network and what to feed it.

    ``channels`` is the rule by which the data's images meet the network; null: as they are.
    """
    return {
        "architecture": request.job.student.network,
        "num_classes": len(info.classes),
        "in_channels": len(normalisation.mean),
        "channels": request.job.student.channels,
        "input_size": _side(request, info),
        "normalisation": normalisation.model_dump(mode="json"),
        "classes": list(info.classes),
    }


def _side(request: RunRequest, info: DatasetInfo) -> int:
    """Students are trained at the data set's side; a model that is only evaluated keeps its own."""
    measured = request.init if request.job.kind == "evaluate" else None
    return info.image_size if measured is None else measured.input_size


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
