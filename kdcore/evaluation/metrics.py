"""Metrics of logits (N, C) against targets (N,); shares are in percent, 0 to 100."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

ECE_BINS = 15


def top_k_accuracy(logits: Tensor, target: Tensor, k: int) -> float:
    """Return the share of rows whose target is among the first k, in percent.

    The order is that of a stable sort, the largest logit first: of equal logits, which int8 gives,
    the lower class comes first. NaN comes before every number. ``argmax`` has the same order.
    """
    target_logit = logits.gather(1, target[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < target[:, None]
    rank = (~(logits <= target_logit) | ((logits == target_logit) & earlier)).sum(dim=1)
    return _percent(rank < k)


def cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Return the mean cross-entropy in nats."""
    return float(functional.cross_entropy(logits.double(), target))


def agreement(logits: Tensor, teacher: Tensor) -> float:
    """Return the share of rows where both predict the same class, in percent."""
    return _percent(logits.argmax(dim=1) == teacher.argmax(dim=1))


def kl_to_teacher(logits: Tensor, teacher: Tensor) -> float:
    """Return KL(softmax(teacher) ‖ softmax(logits)) at temperature 1, the mean in nats."""
    log_p = functional.log_softmax(logits.double(), dim=1)
    log_t = functional.log_softmax(teacher.double(), dim=1)
    return float(functional.kl_div(log_p, log_t, reduction="batchmean", log_target=True))


def ece(logits: Tensor, target: Tensor, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error in percent.

    The sum over bins (lo, hi] of equal width of: share of rows · |accuracy - mean confidence|.
    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    confidence, predicted = functional.softmax(logits.double(), dim=1).max(dim=1)
    gap = (predicted == target).double() - confidence
    bin_index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    per_bin = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_index, gap)
    return 100 * float(per_bin.abs().sum()) / len(target)


def per_class_top1(logits: Tensor, target: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return top-1 of each class in percent, by name; classes without rows are left out."""
    right = logits.argmax(dim=1) == target
    return {
        name: _percent(right[target == class_index])
        for class_index, name in enumerate(classes)
        if bool((target == class_index).any())
    }


def confusion(logits: Tensor, target: Tensor) -> tuple[tuple[int, ...], ...]:
    """Return counts (C, C) by true class (row) and predicted class (column)."""
    classes = logits.shape[1]
    cell_index = target * classes + logits.argmax(dim=1)
    counts = torch.bincount(cell_index, minlength=classes * classes).view(classes, classes)
    return tuple(tuple(map(int, row)) for row in counts)


def disagreements(logits: Tensor, teacher: Tensor, max_rows: int) -> list[int]:
    """Return at most ``max_rows`` rows with different predictions, the most confident first."""
    top = (functional.softmax(z.double(), dim=1).max(dim=1) for z in (logits, teacher))
    (student_confidence, student_class), (teacher_confidence, teacher_class) = top
    rows = (student_class != teacher_class).nonzero().flatten()
    order = (student_confidence * teacher_confidence)[rows].argsort(descending=True, stable=True)
    return [int(row) for row in rows[order[:max_rows]]]


def fidelity(logits: Tensor, teacher: Tensor | None) -> dict[str, float]:
    """Return ``agreement`` and ``kl_to_teacher``; nothing without a teacher."""
    if teacher is None:
        return {}
    return {
        "agreement": agreement(logits, teacher),
        "kl_to_teacher": kl_to_teacher(logits, teacher),
    }


def validation_metrics(logits: Tensor, target: Tensor, teacher: Tensor | None) -> dict[str, float]:
    """Return the ``val/`` metrics by name; ``val/top5`` for more than five classes."""
    values = {"top1": top_k_accuracy(logits, target, 1), "loss": cross_entropy(logits, target)}
    if logits.shape[1] > 5:
        values["top5"] = top_k_accuracy(logits, target, 5)
    values |= {"ece": ece(logits, target), **fidelity(logits, teacher)}
    return {f"val/{name}": value for name, value in values.items()}


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)
