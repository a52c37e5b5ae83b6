"""Refuse teachers that are no better than chance on the validation split, or in a wrong order."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation.class_order import LikelyOrder
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail

_P_THRESHOLD = 0.001
"""Significance level: a teacher that always predicts the most frequent class passes this often."""
_WEAK_GAIN = 0.1
"""A teacher that corrects a smaller share of the majority class's errors is weak."""
_FAR_BELOW = 20.0
"""Points of accuracy; smaller differences between two data sets are usual."""
HINT = (
    "check that the teacher's normalization is the one of its training, that its classes are in "
    "the data set's order, and that its input size is right"
)

ORDER_HINT = (
    "set the class_map of fix, or upload the teacher with its class_names; a class_map of 0, 1, "
    "2, ... states that its classes are in the data set's order"
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


def check_teachers(
    names: Sequence[str],
    results: Sequence[ChanceTest],
    orders: Mapping[int, LikelyOrder] | None = None,
    notes: Sequence[str] = (),
) -> list[str]:
    """Refuse teachers that are no better than the most frequent class at p < 0.001.

    ``orders`` has, by the index of a teacher whose order of classes is an assumption, the order
    that fits better; such teachers are refused, too. ``notes`` are sentences for the hint of a
    refusal. Returns warnings for weak teachers. Raises :class:`UserError` ``teacher_load_failed``,
    which names all refused teachers, with their class maps as a fix.
    """
    orders = orders or {}
    bad: dict[str, ErrorDetail] = {}
    warnings = []
    for index, (name, result) in enumerate(zip(names, results, strict=True)):
        summary = _summarize(result)
        if index in orders:
            reason = (
                f"the teacher {name} (/teachers/{index}) probably has its classes in another order "
                "than the data set"
            )
            bad[reason] = error_detail(name, orders[index].sentence)
        elif not result.is_decidable:
            warnings.append(f"too few validation images to judge the teacher {name}: {summary}")
        elif result.is_chance_level:
            reason = f"the teacher {name} (/teachers/{index}) is no better than chance"
            bad[reason] = error_detail(name, summary)
        elif result.is_weak:
            warnings.append(f"the teacher {name} is weak: {summary}. {HINT}")
    if bad:
        raise _refusal(bad, orders, notes)
    return warnings


def reported_top1_warning(name: str, result: ChanceTest, reported_top1: float | None) -> str | None:
    """Return a sentence about a teacher that is far below its reported accuracy, or None."""
    if reported_top1 is None or result.top1 > reported_top1 - _FAR_BELOW:
        return None
    return (
        f"the teacher {name} is far below its reported accuracy of {reported_top1:.1f} %: "
        f"{_summarize(result)}. {HINT}"
    )


def _summarize(result: ChanceTest) -> str:
    return (
        f"{result.top1:.1f} % of {result.total} validation images are right; the most frequent "
        f"class alone gives {100 * result.majority_count / result.total:.1f} %"
    )


def _refusal(
    bad: Mapping[str, ErrorDetail], orders: Mapping[int, LikelyOrder], notes: Sequence[str]
) -> UserError:
    """Return the error with one sentence for each refused teacher, by its reason."""
    sentences = [f"{reason}: {detail.detail}" for reason, detail in bad.items()]
    if len(bad) > 1 and orders:
        sentences.append(f"likely_class_order is that of /teachers/{next(iter(orders))}")
    fix = [
        {"op": "add", "path": f"/teachers/{index}/class_map", "value": list(order.class_map)}
        for index, order in orders.items()
    ]
    return UserError(
        "teacher_load_failed",
        ". ".join(sentences),
        hint=". ".join([*([ORDER_HINT] if orders else []), HINT, *notes]),
        items=list(bad.values()),
        fix=fix or None,
        likely_class_order=next((order.class_map for order in orders.values()), None),
    )
