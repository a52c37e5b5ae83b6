"""Refuse teachers whose accuracy on the validation split is no better than chance."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail

_P_THRESHOLD = 0.001
"""Significance level: a teacher that always predicts the most frequent class passes this often."""
_WEAK_GAIN = 0.1
"""A teacher that corrects a smaller share of the majority class's errors is weak."""
HINT = (
    "check that the teacher's normalization is the one of its training, that its classes are in "
    "the data set's order, and that its input size is right"
)


class ChanceTest(NamedTuple):
    """Correct predictions of one teacher on the validation split, compared with chance."""

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
        """Probability of at least as many hits for the most frequent class alone."""
        from scipy.special import bdtrc  # slow to import, and some runs have no teacher

        return float(bdtrc(self.num_correct - 1, self.total, self.majority_count / self.total))

    @property
    def is_decidable(self) -> bool:
        """Whether a perfect teacher would pass; with very few images it would not."""
        return self._replace(num_correct=self.total).p_value < _P_THRESHOLD

    @property
    def is_chance_level(self) -> bool:
        """Whether the hits are not better than chance at p < 0.001, where that is decidable."""
        return self.is_decidable and self.p_value >= _P_THRESHOLD

    @property
    def is_weak(self) -> bool:
        """Whether the gain over the most frequent class is small, for any number of images."""
        return self.num_correct - self.majority_count < _WEAK_GAIN * (
            self.total - self.majority_count
        )


def count_correct(logits: Tensor, target: Tensor) -> ChanceTest:
    """Count the correct predictions of logits (N, C) for targets (N,)."""
    return ChanceTest(
        num_correct=int((logits.argmax(dim=1) == target).sum()),
        total=len(target),
        majority_count=int(torch.bincount(target).max()),
    )


def check_teachers(names: Sequence[str], results: Sequence[ChanceTest]) -> list[str]:
    """Refuse teachers that are no better than the most frequent class at p < 0.001.

    Returns warnings for weak teachers. Raises :class:`UserError` ``teacher_load_failed``, which
    names all refused teachers.
    """
    bad, warnings = [], []
    for name, result in zip(names, results, strict=True):
        summary = (
            f"{result.top1:.1f} % of {result.total} validation images are right; the most frequent "
            f"class alone gives {100 * result.majority_count / result.total:.1f} %"
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
            f"the teacher is no better than chance: {bad[0].name}: {bad[0].detail}",
            hint=HINT,
            items=bad,
        )
    return warnings
