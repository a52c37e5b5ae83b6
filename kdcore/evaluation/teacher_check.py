"""The gate: a teacher that knows nothing of the data must not teach."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.runtime.errors import UserFault, item

_P = 0.001
"""Chance that a teacher passes which only ever names the most frequent class."""
_WEAK = 0.1
"""A teacher that is right in less of what naming the most frequent class leaves wrong is weak."""
HINT = (
    "Check that the teacher's normalisation is the one that it was trained with, that its classes "
    "are in the data set's order, and that its input size is right."
)


class Hits(NamedTuple):
    """How often one teacher was right on the validation split."""

    right: int
    total: int
    majority: int
    """Images of the most frequent class."""

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.right / self.total

    @property
    def p(self) -> float:
        """Chance of so many hits for one whose every guess hits like the most frequent class."""
        from scipy.special import bdtrc  # it takes a while to load, and not every run has a teacher

        return float(bdtrc(self.right - 1, self.total, self.majority / self.total))

    @property
    def decidable(self) -> bool:
        """Whether a perfect teacher would pass; with a handful of images not even that one does."""
        return self._replace(right=self.total).p < _P

    @property
    def by_chance(self) -> bool:
        """Whether so many hits, at p < 0.001, tell nothing, where they could."""
        return self.decidable and self.p >= _P

    @property
    def weak(self) -> bool:
        """Whether it gains little over naming the most frequent class, however many there are."""
        return self.right - self.majority < _WEAK * (self.total - self.majority)


def hits(logits: Tensor, target: Tensor) -> Hits:
    """Count for logits (N, C) and targets (N,)."""
    return Hits(
        right=int((logits.argmax(dim=1) == target).sum()),
        total=len(target),
        majority=int(torch.bincount(target).max()),
    )


def check(names: Sequence[str], counted: Sequence[Hits]) -> list[str]:
    """Refuse teachers that are not better than naming the most frequent class, at p < 0.001.

    Returns warnings for those that pass but look weak. Raises ``UserFault`` that names all others.
    """
    bad, warnings = [], []
    for name, hit in zip(names, counted, strict=True):
        told = (
            f"{hit.top1:.1f} % of {hit.total} validation images right; the most frequent class "
            f"alone gives {100 * hit.majority / hit.total:.1f} %"
        )
        if not hit.decidable:
            warnings.append(f"too few validation images to judge the teacher {name}: {told}")
        elif hit.by_chance:
            bad.append(item(name, told))
        elif hit.weak:
            warnings.append(f"the teacher {name} is weak: {told}. {HINT}")
    if bad:
        raise UserFault(
            "teacher_load_failed",
            f"the teacher is no better than chance: {bad[0].name} has {bad[0].detail}",
            hint=HINT,
            items=bad,
        )
    return warnings
