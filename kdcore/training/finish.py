"""Evaluate all networks on the test split, write the report, export the student or its ensemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.class_order import LikelyOrder, find_likely_order
from kdcore.evaluation.normalization_check import PreprocessingTrials, describe_candidates
from kdcore.evaluation.plausibility import StudentLogits, TrainingCourse, find_issues
from kdcore.evaluation.report_builder import (
    Evaluator,
    NetworkCost,
    confusion,
    disagreements,
    evaluate_teachers,
    summarize_seeds,
    verdict,
)
from kdcore.export.artifacts import publish_artifacts
from kdcore.export.exportable import (
    ExportableNetwork,
    MeanOfProbabilities,
    calibration_images,
    onnx_metadata,
)
from kdcore.export.exporter import ExportResults, export_all
from kdcore.methods.common.objective import CROSS_ENTROPY
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.models.normalized_model import NormalizedModel, normalization_for_channels
from kdcore.protocol.requests import RunRequest
from kdcore.schema.exports import ExportFormat
from kdcore.schema.job import ResolvedJob
from kdcore.schema.report import EpochSummary, Evaluation, Finding, Report
from kdcore.schemes import planner
from kdcore.schemes.base import StudentResult
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_ENSEMBLE_FORMATS: tuple[ExportFormat, ...] = ("onnx", "exported_program")


class FinalEvaluation(NamedTuple):
    """Results on the test split."""

    report: Report
    student: StudentResult
    """The delivered student."""
    logits: Tensor
    """The student's logits (N, C) on the test split."""
    cost: NetworkCost


def evaluate_and_export(
    request: RunRequest, run_state: RunState, context: JobContext, folder: Path
) -> None:
    """Evaluate every trained network, export the first seed's student, and emit the report.

    A run that is cancelled here repeats all of it from the results in the last checkpoint.
    """
    run_state.events.phase("evaluating")
    evaluator = Evaluator(
        images=context.dataset.images("test"),
        target=context.dataset.targets("test"),
        classes=context.dataset.info.classes,
        device=run_state.compute_env.device,
        check_cancelled=run_state.check_cancelled,
        latency_rounds=request.latency_rounds,
    )
    final = evaluate_on_test(run_state, context, evaluator)
    run_state.events.phase("exporting")
    run_state.check_cancelled()
    folder.mkdir(parents=True, exist_ok=True)
    exported = ExportResults({}, {})
    if context.evaluated_program is None:
        exported = export_all(
            folder, context.job.exports, _export_source(context, evaluator, final), evaluator
        )
    report = exported.add_to_report(final.report)
    warnings = exported.log_messages()
    if planner.scheme_of(context.job).exports_ensemble(context.job):
        ensemble_exports = _export_ensemble(folder, context, run_state, evaluator)
        report = report.model_copy(update={"ensemble_exports": ensemble_exports.evaluations})
        warnings += [f"ensemble: {sentence}" for sentence in ensemble_exports.log_messages()]
    for sentence in warnings:
        run_state.events.log("warning", sentence)
    publish_artifacts(
        folder, run_state.events, request, context.dataset.info, report, context.normalization
    )
    run_state.events.report(report.model_dump(mode="json"))


def evaluate_on_test(
    run_state: RunState, context: JobContext, evaluator: Evaluator
) -> FinalEvaluation:
    """The report without exports, and the delivered student."""
    teacher_logits, teacher = evaluate_teachers(evaluator, context.teachers)
    students = planner.students(context.job, run_state.results)
    baselines = planner.baselines(run_state.results)
    logits, baseline_logits = (
        [_test_logits(run_state, context, evaluator, result) for result in results]
        for results in (students, baselines)
    )
    # All students have one architecture: measuring each would only add noise.
    network = context.load_trained(students[0]).to(run_state.compute_env.device)
    cost = evaluator.measure_cost(network)
    student = evaluator.evaluate(logits[0], teacher_logits, cost)
    baseline = evaluator.evaluate(baseline_logits[0], teacher_logits, cost) if baselines else None
    tested = StudentLogits(logits, baseline_logits, evaluator.target)
    groups = {"student": logits, "baseline": baseline_logits}
    top1 = {role: _test_top1(evaluator, group) for role, group in groups.items()}
    issues = _find_issues(run_state, context, tested, teacher)
    order = _likely_order(context, evaluator, logits[0])
    report = Report(
        student=student,
        teacher=teacher,
        baseline=baseline,
        verdict=verdict(context.job.accept, student, teacher, issues),
        seeds=summarize_seeds(top1["student"], top1["baseline"]),
        epochs=_epochs(students[0]) if context.job.trains else None,
        confusion=confusion(evaluator, logits[0]),
        likely_class_order=order and order.class_map,
        warnings=_warnings(run_state, context, evaluator, network, order),
        disagreements=disagreements(evaluator, logits[0], teacher_logits),
        device=run_state.compute_env.name,
        versions=run_state.compute_env.versions,
        normalization=context.normalization,
        details={"test_top1_by_seed": top1, "training_s": round(run_state.wall_s, 3)}
        | run_state.report_details()
        | _network_details(run_state, context, evaluator, students[0]),
    )
    return FinalEvaluation(report, students[0], logits[0], cost)


def _find_issues(
    run_state: RunState, context: JobContext, tested: StudentLogits, teacher: Evaluation | None
) -> tuple[Finding, ...]:
    """What a user should know about the trained student; every finding is logged as a warning."""
    job = context.job
    if not job.trains:
        return ()
    student = planner.students(job, run_state.results)[0]
    course = TrainingCourse(
        epochs=job.training.epochs,
        best_epoch=student.best_epoch,
        lr=job.training.optimizer.lr,
        label_weight=_label_weight(job, student),
        lowest_val_loss=student.lowest_val_loss,
        last_val_loss=student.last_val_loss,
        largest_term=student.largest_term,
    )
    top1 = teacher.top1 if teacher else None
    findings = find_issues(course, tested, top1, context.teacher_findings)
    for finding in findings:
        run_state.events.log("warning", finding.sentence)
    return findings


def _label_weight(job: ResolvedJob, student: StudentResult) -> float:
    """The weight of cross-entropy at the start of the student's training."""
    if job.label_weight == "auto":
        return student.weights_at_start.get(CROSS_ENTROPY, 1.0)
    return job.label_weight


def _likely_order(context: JobContext, evaluator: Evaluator, logits: Tensor) -> LikelyOrder | None:
    """Another order of classes that fits an evaluated model without class names better."""
    if context.job.kind != "evaluate" or context.is_order_known:
        return None
    return find_likely_order(logits, evaluator.target, evaluator.classes)


def _warnings(
    run_state: RunState,
    context: JobContext,
    evaluator: Evaluator,
    network: NormalizedModel,
    order: LikelyOrder | None,
) -> tuple[str, ...]:
    """The warnings about the inputs, and those about an evaluated model."""
    warnings = []
    if order is not None:
        warnings.append(f"the model's classes are probably in another order: {order.sentence}")
    if context.job.kind == "evaluate" and not context.normalization_declared:
        normalization = normalization_for_channels(
            context.dataset.info.normalization, context.job.student.channels
        )
        trials = PreprocessingTrials(
            network,
            normalization,
            evaluator.images,
            evaluator.target,
            run_state.check_cancelled,
        )
        warnings.append(describe_candidates("model", trials.compare_normalizations()))
    for warning in warnings:
        run_state.events.log("warning", warning)
    return (*context.warnings, *warnings)


def _test_top1(evaluator: Evaluator, logits: Sequence[Tensor]) -> list[float]:
    """Top-1 of several networks from their logits (N, C) on the test split."""
    return [metrics.top_k_accuracy(rows, evaluator.target, 1) for rows in logits]


def _export_source(
    context: JobContext, evaluator: Evaluator, final: FinalEvaluation
) -> ExportableNetwork:
    network = context.load_trained(final.student).eval()
    return ExportableNetwork(
        network=network,
        logits=final.logits,
        speed=final.cost.speed,
        calibration=calibration_images(context.dataset.images("train"), context.job.seed),
        metadata=onnx_metadata(
            final.student.student.network,
            evaluator.classes,
            context.normalization,
            evaluator.input_shape(network)[1],
            context.dataset.info.sixteen_bit_range,
        ),
    )


def _epochs(student: StudentResult) -> EpochSummary:
    return EpochSummary(
        best_epoch=student.best_epoch,
        best_val_top1=student.best_val_top1,
        last_val_top1=student.last_val_top1,
    )


def _test_logits(
    run_state: RunState, context: JobContext, evaluator: Evaluator, result: StudentResult
) -> Tensor:
    """Logits (N, C) of a trained network on the test split."""
    return evaluator.logits(context.load_trained(result).to(run_state.compute_env.device))


def _network_details(
    run_state: RunState, context: JobContext, evaluator: Evaluator, student: StudentResult
) -> dict[str, Any]:
    """Test top-1 of every network of the student's seed, and of their ensemble if they form one.

    Empty if the student was trained alone.
    """
    networks = planner.seed_results(run_state.results, student.seed_index)
    if len(networks) < 2:
        return {}
    logits_by_name = {
        result.name: _test_logits(run_state, context, evaluator, result) for result in networks
    }
    details: dict[str, Any] = {
        "networks": [
            {
                "name": result.name,
                "architecture": result.student.network,
                "best_val_top1": result.best_val_top1,
                "test_top1": metrics.top_k_accuracy(
                    logits_by_name[result.name], evaluator.target, 1
                ),
            }
            for result in networks
        ]
    }
    if planner.scheme_of(context.job).trains_ensemble:
        ensemble = _ensemble_logits(list(logits_by_name.values()))
        details["ensemble_top1"] = metrics.top_k_accuracy(ensemble, evaluator.target, 1)
    return details


def _ensemble_logits(logits: Sequence[Tensor]) -> Tensor:
    """The mean of several networks' probabilities, as logits (N, C)."""
    return mean_logits(logits, [1.0] * len(logits), 1.0)


def _export_ensemble(
    folder: Path, context: JobContext, run_state: RunState, evaluator: Evaluator
) -> ExportResults:
    """Export the first seed's networks as one: ``ensemble.onnx`` and ``ensemble.pt2``."""
    members = [
        context.load_trained(result) for result in planner.seed_results(run_state.results, 0)
    ]
    input_size = members[0].input_size
    channels = members[0].channels
    networks = [member.network for member in members]
    network = NormalizedModel(
        MeanOfProbabilities(networks), context.normalization, input_size, channels
    ).eval()
    on_device = network.to(run_state.compute_env.device)
    logits, cost = evaluator.logits(on_device), evaluator.measure_cost(on_device)
    source = ExportableNetwork(
        network=on_device.cpu(),
        logits=logits,
        speed=cost.speed,
        calibration=calibration_images(context.dataset.images("train"), context.job.seed),
        metadata=onnx_metadata(
            f"{context.job.student.network} x {len(networks)}",
            evaluator.classes,
            context.normalization,
            evaluator.input_shape(network)[1],
            context.dataset.info.sixteen_bit_range,
        ),
        stem="ensemble",
    )
    return export_all(folder, _ENSEMBLE_FORMATS, source, evaluator)
