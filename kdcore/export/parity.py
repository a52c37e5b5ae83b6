"""Whether a file answers like the network that it was made from, on real images, and how well."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation import metrics, teacher_check
from kdcore.evaluation.latency import measure_calls
from kdcore.evaluation.report_builder import TestBench
from kdcore.export.exportable import Source
from kdcore.export.runners import Runner, answers
from kdcore.models.predict_logits import predict
from kdcore.schema.exports import ExportFormat
from kdcore.schema.report import ExportEvaluation
from kdcore.weights.safetensors_io import ParityError, check_parity

_MOST = 10_000
"""Test images: of a bigger split, every n-th one."""
_PARITY = 256
"""Images for which PyTorch answers again on the CPU where the report's answers come from an
accelerator, whose own kernels differ by more than a file may."""
_FAR = 1.0
"""Points of top-1 below PyTorch's from which a user is warned."""


class Sample(NamedTuple):
    """The test images that files are run on, and what PyTorch says of them."""

    images: Tensor  # (N, C, H, W) uint8
    target: Tensor  # (N,)
    logits: Tensor  # (N, C) as in the report
    on_cpu: Tensor  # (M, C) of the first M images, by PyTorch on the CPU


def sample(source: Source, bench: TestBench) -> Sample:
    """Choose images and let PyTorch answer."""
    step = -(-len(bench.images) // _MOST)
    images, logits = bench.images[::step], source.logits[::step]
    if bench.device.type == "cpu":
        return Sample(images, bench.target[::step], logits, logits)
    cpu = torch.device("cpu")
    again = predict(source.network, images[:_PARITY], device=cpu, boundary=bench.boundary)
    return Sample(images, bench.target[::step], logits, again)


def evaluation(
    kind: ExportFormat,
    path: Path,
    runner: Runner,
    source: Source,
    bench: TestBench,
    seen: Sample,
) -> ExportEvaluation:
    """Run the file at ``path`` and compare. Raises ``ParityError`` where it must not be published:
    a float form whose logits differ, an eight-bit form that agrees no better than by chance.
    """
    given = answers(runner, source.network, seen.images, bench.boundary)
    if given.shape != seen.logits.shape:
        raise ParityError(f"it gives logits {tuple(given.shape)}, not {tuple(seen.logits.shape)}")
    gap = None
    if kind == "onnx_int8":
        _better_than_chance(given, seen.logits)
    else:
        gap = check_parity(seen.on_cpu, given[: len(seen.on_cpu)])
    bench.boundary()
    speed = measure_calls(runner.one_thread, runner.all_threads, bench.shape(source.network))
    top1 = metrics.top(given, seen.target, 1)
    return ExportEvaluation(
        file=path.name,
        top1=top1,
        agreement=metrics.agreement(given, seen.logits),
        max_rel_difference=gap,
        num_images=len(given),
        size_bytes=path.stat().st_size,
        latency_ms=speed.latency_ms,
        images_per_s=speed.images_per_s,
        warning=_warning(top1, metrics.top(seen.logits, seen.target, 1)),
    )


def _better_than_chance(given: Tensor, logits: Tensor) -> None:
    """At p < 0.001 against naming the network's most frequent class; where that can be told."""
    found = teacher_check.hits(given, logits.argmax(dim=1))
    if not bool(torch.isfinite(given).all()) or found.by_chance:
        raise ParityError(
            f"it names PyTorch's class for {found.top1:.1f} % of {found.total} images, no better "
            "than chance; it is not published"
        )


def _warning(top1: float, own: float) -> str | None:
    if own - top1 < _FAR:
        return None
    return f"its top-1 is {own - top1:.1f} points below PyTorch's: {top1:.1f} % against {own:.1f} %"
