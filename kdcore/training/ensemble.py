"""What a scheme trained beside the student: told in the report, and joined to an ensemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import TestBench
from kdcore.export.ensemble_network import MeanOfProbabilities
from kdcore.export.exportable import Source, calibration_images, facts
from kdcore.export.exporter import Exports, export_all
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.models.normalized_model import Normalised
from kdcore.schema.exports import ExportFormat
from kdcore.schema.job import ResolvedJob
from kdcore.schema.schemes import BornAgain
from kdcore.schemes import planner
from kdcore.schemes.base import Result
from kdcore.training.context import Task
from kdcore.training.run_state import Session

_FORMS: tuple[ExportFormat, ...] = ("onnx", "exported_program")


def joined(job: ResolvedJob) -> bool:
    """Whether the job asks for its generations as one network."""
    return isinstance(job.scheme, BornAgain) and job.scheme.export_ensemble


def logits(session: Session, task: Task, bench: TestBench, result: Result) -> Tensor:
    """Test logits (N, C) of a result's network."""
    return bench.logits(task.trained(result).to(session.machine.device))


def told(session: Session, task: Task, bench: TestBench, student: Result) -> dict[str, Any]:
    """Test top-1 of every network of the student's seed and, where they are alike, of them all.

    Nothing where the student was trained alone.
    """
    taught = planner.cohort(session.results, student.number)
    if len(taught) < 2:
        return {}
    answers = {result.name: logits(session, task, bench, result) for result in taught}
    found: dict[str, Any] = {
        "networks": [
            {
                "name": result.name,
                "architecture": result.student.network,
                "best_val_top1": result.best_val_top1,
                "test_top1": metrics.top(answers[result.name], bench.target, 1),
            }
            for result in taught
        ]
    }
    if task.job.scheme.type in ("born_again", "mutual"):
        ensemble = mean_of(list(answers.values()))
        found["ensemble_top1"] = metrics.top(ensemble, bench.target, 1)
    return found


def mean_of(answers: Sequence[Tensor]) -> Tensor:
    """The mean of several networks' probabilities, as logits (N, C)."""
    return mean_logits(answers, [1.0] * len(answers), 1.0)


def export(folder: Path, task: Task, session: Session, bench: TestBench) -> Exports:
    """The first seed's generations as one network: ``ensemble.onnx`` and ``ensemble.pt2``."""
    generations = [task.trained(result) for result in planner.cohort(session.results, 0)]
    side = generations[0].input_size
    rule = generations[0].channels
    networks = [generation.network for generation in generations]
    network = Normalised(MeanOfProbabilities(networks), task.normalisation, side, rule).eval()
    placed = network.to(session.machine.device)
    answers, spent = bench.logits(placed), bench.cost(placed)
    source = Source(
        network=placed.cpu(),
        logits=answers,
        speed=spent.speed,
        calibration=calibration_images(task.store.images("train"), task.job.seed),
        facts=facts(
            f"{task.job.student.network} x {len(networks)}",
            bench.classes,
            task.normalisation,
            bench.shape(network)[1],
        ),
        stem="ensemble",
    )
    return export_all(folder, _FORMS, source, bench)
