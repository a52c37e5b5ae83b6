"""The gate: a teacher that knows nothing of the data must not teach."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail

_P_THRESHOLD = 0.001
"""Chance that a teacher passes which only ever names the most frequent class."""
_WEAK_GAIN = 0.1
"""A teacher that is right in less of what naming the most frequent class leaves wrong is weak."""
HINT = (
    "Check that the teacher's normalization is the one that it was trained with, that its classes "
    "are in the data set's order, and that its input size is right."
)


class ChanceTest(NamedTuple):
    """How often one teacher was right on the validation split."""

    num_correct: int
    total: int
    majority_count: int
    """Images of the most frequent class."""

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.num_correct / self.total

    @property
    def p_value(self) -> float:
        """Chance of so many hits for one whose every guess hits like the most frequent class."""
        from scipy.special import bdtrc  # it takes a while to load, and not every run has a teacher

        return float(bdtrc(self.num_correct - 1, self.total, self.majority_count / self.total))

    @property
    def is_decidable(self) -> bool:
        """Whether a perfect teacher would pass; with a handful of images not even that one does."""
        return self._replace(num_correct=self.total).p_value < _P_THRESHOLD

    @property
    def is_chance_level(self) -> bool:
        """Whether so many hits, at p < 0.001, tell nothing, where they could."""
        return self.is_decidable and self.p_value >= _P_THRESHOLD

    @property
    def is_weak(self) -> bool:
        """Whether it gains little over naming the most frequent class, however many there are."""
        return self.num_correct - self.majority_count < _WEAK_GAIN * (
            self.total - self.majority_count
        )


def count_correct(logits: Tensor, target: Tensor) -> ChanceTest:
    """Count for logits (N, C) and targets (N,)."""
    return ChanceTest(
        num_correct=int((logits.argmax(dim=1) == target).sum()),
        total=len(target),
        majority_count=int(torch.bincount(target).max()),
    )


def check_teachers(names: Sequence[str], results: Sequence[ChanceTest]) -> list[str]:
    """Refuse teachers that are not better than naming the most frequent class, at p < 0.001.

    Returns warnings for those that pass but look weak. Raises ``UserFault`` that names all others.
    """
    bad, warnings = [], []
    for name, result in zip(names, results, strict=True):
        summary = (
            f"{result.top1:.1f} % of {result.total} validation images right; the most "
            "frequent class "
            f"alone gives {100 * result.majority_count / result.total:.1f} %"
        )
        if not result.is_decidable:
            warnings.append(f"too few validation images to judge the teacher {name}: {summary}")
        elif result.is_chance_level:
            bad.append(error_detail(name, summary))
        elif result.is_weak:
            warnings.append(f"the teacher {name} is weak: {summary}. {HINT}")
    if bad:
        raise UserError(
            "teacher_load_failed",
            f"the teacher is no better than chance: {bad[0].name} has {bad[0].detail}",
            hint=HINT,
            items=bad,
        )
    return warnings
