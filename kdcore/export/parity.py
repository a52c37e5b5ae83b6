"""Run an exported file, compare its logits with the network's, measure its accuracy and speed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation import metrics, plausibility
from kdcore.evaluation.latency import measure_callables
from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.exportable import ExportableNetwork
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.schema.exports import ExportFormat
from kdcore.schema.report import ExportEvaluation
from kdcore.weights.safetensors_io import ParityError, check_parity

_BATCH = 64
_MAX_IMAGES = 10_000
"""Largest number of test images; of a larger split, every n-th image is used."""
_PARITY_IMAGES = 256
"""Images whose logits PyTorch computes again on the CPU, if the report's logits come from an
accelerator: its kernels differ by more than the tolerance for files."""
_WARNING_DROP = 1.0
"""Loss of top-1, in points, that gives a warning."""


RunBatch = Callable[[Tensor], Tensor]
"""Runs a file: normalized images (B, C, H, W) float32 on the CPU to logits (B, C)."""

OpenFile = Callable[[int | None], RunBatch]
"""Opens a file to run it with a number of threads; None for the runtime's default options."""


class ParityImages(NamedTuple):
    """Test images for the comparison, and the logits of PyTorch."""

    images: Tensor  # (N, C, H, W) uint8
    target: Tensor  # (N,)
    logits: Tensor  # (N, C) as in the report
    cpu_logits: Tensor  # (M, C) of the first M images, by PyTorch on the CPU


def select_images(exportable: ExportableNetwork, evaluator: Evaluator) -> ParityImages:
    """Choose test images and compute PyTorch's logits for them."""
    step = -(-len(evaluator.images) // _MAX_IMAGES)
    images, logits = evaluator.images[::step], exportable.logits[::step]
    if evaluator.device.type == "cpu":
        return ParityImages(images, evaluator.target[::step], logits, logits)
    cpu = torch.device("cpu")
    cpu_logits = predict(
        exportable.network,
        images[:_PARITY_IMAGES],
        device=cpu,
        check_cancelled=evaluator.check_cancelled,
    )
    return ParityImages(images, evaluator.target[::step], logits, cpu_logits)


def evaluate_export(
    kind: ExportFormat,
    path: Path,
    open_file: OpenFile,
    exportable: ExportableNetwork,
    evaluator: Evaluator,
    parity_images: ParityImages,
) -> ExportEvaluation:
    """Run the file at ``path`` with default options and compare its logits with PyTorch's.

    Raises :class:`ParityError` for a float file whose logits differ, and for an int8 file whose
    predictions agree no better than by chance.
    """
    file_logits = run_on_images(
        open_file(None), exportable.network, parity_images.images, evaluator.check_cancelled
    )
    max_difference = _compare_logits(kind, file_logits, parity_images)
    evaluator.check_cancelled()
    speed = measure_callables(
        open_file(1),
        open_file(torch.get_num_threads()),
        evaluator.input_shape(exportable.network),
        evaluator.latency_rounds,
    )
    top1 = metrics.top_k_accuracy(file_logits, parity_images.target, 1)
    return ExportEvaluation(
        file=path.name,
        top1=top1,
        agreement=metrics.agreement(file_logits, parity_images.logits),
        max_rel_difference=max_difference,
        num_images=len(file_logits),
        size_bytes=path.stat().st_size,
        latency_ms=speed.latency_ms,
        images_per_s=speed.images_per_s,
        warning=_warning(
            top1, metrics.top_k_accuracy(parity_images.logits, parity_images.target, 1)
        ),
    )


def _compare_logits(
    kind: ExportFormat, file_logits: Tensor, parity_images: ParityImages
) -> float | None:
    """Return the largest relative difference of a logit; None for int8, which has no limit."""
    logits, cpu_logits = parity_images.logits, parity_images.cpu_logits
    if file_logits.shape != logits.shape:
        raise ParityError(f"its logits are {tuple(file_logits.shape)}, not {tuple(logits.shape)}")
    if kind == "onnx_int8":
        _check_better_than_chance(file_logits, logits)
        return None
    return check_parity(cpu_logits, file_logits[: len(cpu_logits)])


def _check_better_than_chance(file_logits: Tensor, logits: Tensor) -> None:
    """Compare the agreement with the network's most frequent class at p < 0.001."""
    chance_test = plausibility.count_correct(file_logits, logits.argmax(dim=1))
    if not bool(torch.isfinite(file_logits).all()) or chance_test.is_chance_level:
        raise ParityError(
            f"its predictions agree with PyTorch's for {chance_test.top1:.1f} % of "
            f"{chance_test.total} images, no better than chance; it is not published"
        )


def _warning(top1: float, pytorch_top1: float) -> str | None:
    if pytorch_top1 - top1 < _WARNING_DROP:
        return None
    return (
        f"its top-1 is {pytorch_top1 - top1:.1f} points below PyTorch's: {top1:.1f} % against "
        f"{pytorch_top1:.1f} %"
    )


def run_on_images(
    run_batch: RunBatch,
    student: NormalizedModel,
    images: Tensor,
    check_cancelled: Callable[[], None],
) -> Tensor:
    """Return logits (N, num_classes) of uint8 ``images`` (N, C, H, W), prepared by ``student``.

    The first image is a batch of its own, so that this size is tested, too. ``check_cancelled`` is
    called before every batch and may raise.
    """
    parts = []
    with torch.inference_mode():
        for start, end in _batches(len(images)):
            check_cancelled()
            batch = student.prepare(images[start:end]).contiguous()
            parts.append(run_batch(batch))
    return torch.cat(parts)


def _batches(count: int) -> Iterator[tuple[int, int]]:
    yield 0, 1
    for start in range(1, count, _BATCH):
        yield start, start + _BATCH
