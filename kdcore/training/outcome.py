"""After the last step: the test split, the report, the artifacts."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.report import TestBench, seeds, teacher_on, verdict
from kdcore.export.artifacts import STUDENT, checked_student, publish
from kdcore.models.preprocess import Normalised
from kdcore.schemes.base import Role
from kdcore.spec.protocol import RunRequest
from kdcore.spec.report import Epochs, Report
from kdcore.training.session import Result, Session
from kdcore.training.task import Task


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
    report, logits = evaluate(session, task, bench)
    session.events.phase("exporting")
    session.boundary()
    student = _of(session.results, "student")[0]
    fresh = task.student(task.job.seed)
    checked_student(folder / STUDENT, student.weights, fresh, bench, logits)
    publish(folder, session.events, request, info, report, task.normalisation)
    session.events.report(report.model_dump(mode="json"))


def evaluate(session: Session, task: Task, bench: TestBench) -> tuple[Report, Tensor]:
    """The report, and the test logits (N, C) of the student that is delivered."""
    teacher_logits, teacher = teacher_on(bench, task.teachers)
    students, baselines = _of(session.results, "student"), _of(session.results, "baseline")
    logits = {
        role: [bench.logits(_network(session, task, result)) for result in results]
        for role, results in (("student", students), ("baseline", baselines))
    }
    # One architecture, so one cost: measuring it again would only add noise.
    spent = bench.cost(_network(session, task, students[0]))
    student = bench.evaluation(logits["student"][0], teacher_logits, spent)
    top1 = {role: [metrics.top(z, bench.target, 1) for z in each] for role, each in logits.items()}
    report = Report(
        student=student,
        teacher=teacher,
        baseline=bench.evaluation(logits["baseline"][0], teacher_logits, spent)
        if baselines
        else None,
        verdict=verdict(task.job.accept, student, teacher),
        seeds=seeds(top1["student"], top1["baseline"]),
        epochs=Epochs(
            best_epoch=students[0].best_epoch,
            best_val_top1=students[0].best_val_top1,
            last_val_top1=students[0].last_val_top1,
        ),
        device=session.machine.name,
        versions=session.machine.versions,
        normalisation=task.normalisation,
        details={"test_top1_by_seed": top1, "training_s": round(session.wall_s, 3)},
    )
    return report, logits["student"][0]


def _of(results: Sequence[Result], role: Role) -> list[Result]:
    return [result for result in results if result.role == role]


def _network(session: Session, task: Task, result: Result) -> Normalised:
    network = task.student(task.job.seed)
    network.network.load_state_dict(result.weights, strict=True)
    return network.to(session.machine.device)
