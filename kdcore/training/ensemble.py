"""Report the other networks of a scheme (peers, generations) and export their ensemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.exportable import (
    ExportableNetwork,
    MeanOfProbabilities,
    calibration_images,
    onnx_metadata,
)
from kdcore.export.exporter import ExportResults, export_all
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.exports import ExportFormat
from kdcore.schemes import planner
from kdcore.schemes.base import StudentResult
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_FORMATS: tuple[ExportFormat, ...] = ("onnx", "exported_program")


def test_logits(
    run_state: RunState, context: JobContext, evaluator: Evaluator, result: StudentResult
) -> Tensor:
    """Logits (N, C) of a trained network on the test split."""
    return evaluator.logits(context.load_trained(result).to(run_state.compute_env.device))


def network_details(
    run_state: RunState, context: JobContext, evaluator: Evaluator, student: StudentResult
) -> dict[str, Any]:
    """Test top-1 of every network of the student's seed, and of their ensemble if they form one.

    Empty if the student was trained alone.
    """
    networks = planner.seed_results(run_state.results, student.seed_index)
    if len(networks) < 2:
        return {}
    logits_by_name = {
        result.name: test_logits(run_state, context, evaluator, result) for result in networks
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
        ensemble = ensemble_logits(list(logits_by_name.values()))
        details["ensemble_top1"] = metrics.top_k_accuracy(ensemble, evaluator.target, 1)
    return details


def ensemble_logits(logits: Sequence[Tensor]) -> Tensor:
    """The mean of several networks' probabilities, as logits (N, C)."""
    return mean_logits(logits, [1.0] * len(logits), 1.0)


def export(
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
    return export_all(folder, _FORMATS, source, evaluator)
