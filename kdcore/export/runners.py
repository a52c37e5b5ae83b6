"""Run an exported file like a user's program."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.models.normalized_model import NormalizedModel

_BATCH = 64


class ExportRunner(NamedTuple):
    """Callables from normalized images (B, C, H, W) float32 on the CPU to logits (B, C)."""

    one_thread: Callable[[Tensor], Tensor]
    all_threads: Callable[[Tensor], Tensor]


def runner_logits(
    runner: ExportRunner,
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
            parts.append(runner.all_threads(batch))
    return torch.cat(parts)


def _batches(count: int) -> Iterator[tuple[int, int]]:
    yield 0, 1
    for start in range(1, count, _BATCH):
        yield start, start + _BATCH
