"""After the last step: the test split, the report, the artifacts."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.error_analysis import confusion, disagreements
from kdcore.evaluation.report_builder import Cost, TestBench, seeds, teacher_on, verdict
from kdcore.export.artifacts import publish
from kdcore.export.exportable import Source, calibration_images, facts
from kdcore.export.exporter import export_all
from kdcore.protocol.requests import RunRequest
from kdcore.schema.report import Epochs, Report
from kdcore.schemes import planner
from kdcore.schemes.base import Result
from kdcore.training import ensemble
from kdcore.training.context import Task
from kdcore.training.run_state import Session


class Outcome(NamedTuple):
    """What the test split says."""

    report: Report
    student: Result
    """The one that is delivered."""
    logits: Tensor
    """Its test logits (N, C)."""
    cost: Cost


def conclude(request: RunRequest, session: Session, task: Task, folder: Path) -> None:
    """Evaluate every finished network, export the first student, and tell the report.

    A run that is stopped in here has lost nothing: all of it is made again from the results in the
    last checkpoint.
    """
    session.events.phase("evaluating")
    bench = TestBench(
        images=task.store.images("test"),
        target=task.store.targets("test"),
        classes=task.store.info.classes,
        device=session.machine.device,
        boundary=session.boundary,
    )
    outcome = evaluate(session, task, bench)
    session.events.phase("exporting")
    session.boundary()
    folder.mkdir(parents=True, exist_ok=True)
    made = export_all(folder, task.job.exports, _source(task, bench, outcome), bench)
    report = made.on(outcome.report)
    told = made.sentences()
    if ensemble.joined(task.job):
        joined = ensemble.export(folder, task, session, bench)
        report = report.model_copy(update={"ensemble_exports": joined.made})
        told += [f"ensemble: {sentence}" for sentence in joined.sentences()]
    for sentence in told:
        session.events.log("warning", sentence)
    publish(folder, session.events, request, task.store.info, report, task.normalisation)
    session.events.report(report.model_dump(mode="json"))


def evaluate(session: Session, task: Task, bench: TestBench) -> Outcome:
    """The report, and the student that is delivered."""
    teacher_logits, teacher = teacher_on(bench, task.teachers)
    students = planner.students(task.job, session.results)
    baselines = planner.baselines(session.results)
    logits = [ensemble.logits(session, task, bench, result) for result in students]
    undistilled = [ensemble.logits(session, task, bench, result) for result in baselines]
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
        epochs=_epochs(students[0]) if task.job.kind == "distill" else None,
        confusion=confusion(bench, logits[0]),
        disagreements=disagreements(bench, logits[0], teacher_logits),
        device=session.machine.name,
        versions=session.machine.versions,
        normalisation=task.normalisation,
        details={
            "test_top1_by_seed": top1,
            "training_s": round(session.wall_s, 3),
            **session.tally.told(),
            **ensemble.told(session, task, bench, students[0]),
        },
    )
    return Outcome(report, students[0], logits[0], spent)


def _source(task: Task, bench: TestBench, outcome: Outcome) -> Source:
    network = task.trained(outcome.student).eval()
    return Source(
        network=network,
        logits=outcome.logits,
        speed=outcome.cost.speed,
        calibration=calibration_images(task.store.images("train"), task.job.seed),
        facts=facts(
            outcome.student.student.network,
            bench.classes,
            task.normalisation,
            bench.shape(network)[1],
        ),
    )


def _epochs(student: Result) -> Epochs:
    return Epochs(
        best_epoch=student.best_epoch,
        best_val_top1=student.best_val_top1,
        last_val_top1=student.last_val_top1,
    )
