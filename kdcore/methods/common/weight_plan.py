"""WeightPlan: the weights of methods whose weight is ``auto``, and of cross-entropy beside them.

A method's share of the gradient is the part that its term has of the sum of the gradient norms,
measured where the term reads the student: at its features, or at its logits. As in the papers,
cross-entropy keeps the weight 1 beside a method, so that the classifier learns at the rate that
suits the labels; beside kd both sum to the size of cross-entropy's own gradient.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdcore.schema.methods import MethodParams

_WARMUP_STEPS = 100
"""Steps in which the methods' shares rise from 0, so that the first updates of random weights come
from labels; a tenth of a short training."""
_MAX_SHARE = 0.95
"""Largest share of all methods beside a label weight that the job sets."""


@dataclass(frozen=True)
class MeasuredMethod:
    """What the search found for one method."""

    ratio: float
    """The weight at which its gradient is as large as that of cross-entropy with weight 1."""
    terms: dict[str, float] = field(default_factory=dict)
    """Factors of its terms at weight 1."""


class WeightPlan:
    """Weights of one student's methods at each step of a training of ``steps`` steps.

    ``methods`` are the parameters of the methods with weight ``auto``, by name. ``label_weight`` is
    the job's weight of cross-entropy, or None where it is found, too.
    """

    def __init__(
        self, methods: Mapping[str, MethodParams], label_weight: float | None, steps: int
    ) -> None:
        self.methods = dict(methods)
        self.measured: dict[str, MeasuredMethod] = {}
        """Results of the search; empty before it."""
        self._label_weight, self._steps = label_weight, steps
        total = sum(params.target_share for params in self.methods.values())
        floor = max((params.min_label_share for params in self.methods.values()), default=0.0)
        limit = min(_MAX_SHARE, 1.0 - floor) if label_weight is None else _MAX_SHARE
        # Methods that together leave less for the labels than the floor are scaled down alike.
        scale = min(1.0, limit / total) if total else 1.0
        self._targets = {name: scale * params.target_share for name, params in self.methods.items()}

    @property
    def is_measured(self) -> bool:
        """Whether the search is complete; true where nothing is to be found."""
        return len(self.measured) == len(self.methods)

    def label_weight(self, step: int, active: Collection[str] | None = None) -> float:
        """Weight of cross-entropy in ``step`` (from 1), beside the ``active`` methods."""
        if self._label_weight is not None:
            return self._label_weight
        names = self._names(active)
        return (1.0 - sum(self._share(name, step) for name in names)) * self._scale(names, step)

    def method_weight(self, name: str, step: int, active: Collection[str] | None = None) -> float:
        """Weight of a method in ``step`` (from 1), beside the ``active`` methods.

        In a stage without cross-entropy it is the weight that it would have beside it.
        """
        ratio, target = self.measured[name].ratio, self._targets[name]
        if self._label_weight is None:
            return ratio * self._share(name, step) * self._scale(self._names(active), step)
        total = sum(self._targets.values())
        if self._label_weight == 0:
            return ratio * target / total
        return ratio * self._label_weight * target / (1.0 - total)

    def initial_weights(self) -> dict[str, float]:
        """Weight of each term, and of cross-entropy, at the target shares."""
        if not self.methods:
            return {}
        first = self._warmup_steps() + 1
        weights = {
            term: factor * self.method_weight(name, first)
            for name, measured in self.measured.items()
            for term, factor in measured.terms.items()
            if factor
        }
        return {**weights, "cross_entropy": self.label_weight(first)}

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: a resumed training does not search again."""
        return {name: vars(measured) for name, measured in self.measured.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.measured = {name: MeasuredMethod(**part) for name, part in state_dict.items()}

    def _share(self, name: str, step: int) -> float:
        """The method's share of the gradient beside labels whose weight is found, too."""
        warmup = self._warmup_steps()
        if step <= warmup:
            return self._targets[name] * step / (warmup + 1)
        end = self.methods[name].weight_decay_end
        progress = (step - warmup - 1) / max(1, self._steps - warmup - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self._targets[name] * (end + (1 - end) * cosine)

    def _names(self, active: Collection[str] | None) -> list[str]:
        """The active methods, in an order that is equal in every process."""
        return [name for name in self.methods if active is None or name in active]

    def _scale(self, names: Sequence[str], step: int) -> float:
        """The factor of all weights with which methods do not take from the labels' weight.

        Methods whose published weight of the labels is below 1 do.
        """
        beside = [name for name in names if self.methods[name].default_label_weight == 1]
        return 1.0 / (1.0 - sum(self._share(name, step) for name in beside))

    def _warmup_steps(self) -> int:
        return min(_WARMUP_STEPS, self._steps // 10)
