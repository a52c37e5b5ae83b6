"""After the last step: the test split, the report, the artifacts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.report import TestBench, seeds, teacher_on, verdict
from kdcore.export.artifacts import STUDENT, checked_student, publish
from kdcore.methods.ensemble import mean_logits
from kdcore.schemes import plan
from kdcore.schemes.base import Result
from kdcore.spec.protocol import RunRequest
from kdcore.spec.report import Epochs, Report
from kdcore.training.session import Session
from kdcore.training.task import Task


class Outcome(NamedTuple):
    """What the test split says."""

    report: Report
    student: Result
    """The one that is delivered."""
    logits: Tensor
    """Its test logits (N, C)."""


def conclude(request: RunRequest, session: Session, task: Task, folder: Path) -> None:
    """Evaluate every finished network, export the first student, and tell the report.

    A run that is stopped in here has lost nothing: all of it is made again from the results in the
    last checkpoint.
    """
    session.events.phase("evaluating")
    info = task.store.info
    bench = TestBench(
        images=task.store.images("test"),
        target=task.store.targets("test"),
        classes=info.classes,
        device=session.machine.device,
        boundary=session.boundary,
    )
    outcome = evaluate(session, task, bench)
    session.events.phase("exporting")
    session.boundary()
    fresh = task.trained(outcome.student)
    checked_student(folder / STUDENT, outcome.student.weights, fresh, bench, outcome.logits)
    publish(folder, session.events, request, info, outcome.report, task.normalisation)
    session.events.report(outcome.report.model_dump(mode="json"))


def evaluate(session: Session, task: Task, bench: TestBench) -> Outcome:
    """The report, and the student that is delivered."""
    teacher_logits, teacher = teacher_on(bench, task.teachers)
    students = plan.students(task.job, session.results)
    baselines = plan.baselines(session.results)
    logits = [_logits(session, task, bench, result) for result in students]
    undistilled = [_logits(session, task, bench, result) for result in baselines]
    # One architecture, so one cost: measuring it again would only add noise.
    spent = bench.cost(task.trained(students[0]).to(session.machine.device))
    student = bench.evaluation(logits[0], teacher_logits, spent)
    top1 = {
        "student": [metrics.top(z, bench.target, 1) for z in logits],
        "baseline": [metrics.top(z, bench.target, 1) for z in undistilled],
    }
    report = Report(
        student=student,
        teacher=teacher,
        baseline=bench.evaluation(undistilled[0], teacher_logits, spent) if baselines else None,
        verdict=verdict(task.job.accept, student, teacher),
        seeds=seeds(top1["student"], top1["baseline"]),
        epochs=_epochs(students[0]),
        device=session.machine.name,
        versions=session.machine.versions,
        normalisation=task.normalisation,
        details={
            "test_top1_by_seed": top1,
            "training_s": round(session.wall_s, 3),
            **_beside(session, task, bench, students[0]),
        },
    )
    return Outcome(report, students[0], logits[0])


def _epochs(student: Result) -> Epochs:
    return Epochs(
        best_epoch=student.best_epoch,
        best_val_top1=student.best_val_top1,
        last_val_top1=student.last_val_top1,
    )


def _beside(session: Session, task: Task, bench: TestBench, student: Result) -> dict[str, Any]:
    """Test top-1 of what the scheme trained beside the student of the first seed, and of all."""
    taught = plan.cohort(session.results, student.number)
    if len(taught) < 2:
        return {}
    logits = {result.name: _logits(session, task, bench, result) for result in taught}
    told: dict[str, Any] = {
        "networks": [
            {
                "name": result.name,
                "architecture": result.student.architecture,
                "best_val_top1": result.best_val_top1,
                "test_top1": metrics.top(logits[result.name], bench.target, 1),
            }
            for result in taught
        ]
    }
    if task.job.scheme.type in ("born_again", "mutual"):
        ensemble = mean_of(list(logits.values()))
        told["ensemble_top1"] = metrics.top(ensemble, bench.target, 1)
    return told


def mean_of(logits: Sequence[Tensor]) -> Tensor:
    """The mean of several networks' probabilities, as logits (N, C)."""
    return mean_logits(logits, [1.0] * len(logits), 1.0)


def _logits(session: Session, task: Task, bench: TestBench, result: Result) -> Tensor:
    return bench.logits(task.trained(result).to(session.machine.device))
