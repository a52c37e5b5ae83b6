"""The sum that a student minimises: cross-entropy with the labels and the methods' terms."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.base import Batch, DataFacts, Method, Outputs, Stage
from kdcore.methods.ensemble import as_one
from kdcore.methods.precision import at_least_float32

CROSS_ENTROPY = "cross_entropy"


class Loss(NamedTuple):
    """One batch's loss: the weighted sum, and its terms by name before they are weighted."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """``label_weight`` · cross-entropy + Σ weight · term over all methods.

    A module, so that what the methods train is in the optimizer and in the checkpoint.
    ``weights`` are the teachers' shares.
    """

    def __init__(
        self, methods: Sequence[Method], label_weight: float, weights: Sequence[float], epochs: int
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self.label_weight = label_weight
        self.weights = tuple(weights)
        self.epochs = epochs

    @property
    def taught(self) -> bool:
        """Whether any method looks at a teacher."""
        return any(method.taught for method in self._methods())

    def build(self, student: Outputs, teachers: Sequence[Outputs], data: DataFacts) -> None:
        """Let every method make its adapters and memories from one small batch's outputs."""
        for method in self._methods():
            method.build(student, self._seen_by(method, teachers), data)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Loss:
        """The loss of one batch; ``teachers`` is empty where no method is taught."""
        terms: dict[str, Tensor] = {}
        weighted: list[Tensor] = []
        stages = [stage_at(m.stages(), batch.epoch, self.epochs) for m in self._methods()]
        labels_count = self.label_weight > 0 and all(_counts(CROSS_ENTROPY, s) for s in stages)
        if labels_count and batch.target is not None:
            terms[CROSS_ENTROPY] = functional.cross_entropy(
                at_least_float32(student.logits), batch.target
            )
            weighted.append(self.label_weight * terms[CROSS_ENTROPY])
        for method, stage in zip(self._methods(), stages, strict=True):
            for name, term in method(student, self._seen_by(method, teachers), batch).items():
                if _counts(name, stage):
                    terms[name] = term
                    weighted.append(method.weight * term)
        return Loss(torch.stack(weighted).sum(), terms)

    def _seen_by(self, method: Method, teachers: Sequence[Outputs]) -> Outputs | None:
        if not method.taught or not teachers:
            return None
        return as_one(teachers, self.weights, method.temperature)

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method)]


def _counts(term: str, stage: Stage) -> bool:
    return stage.terms is None or term in stage.terms


def stage_at(stages: Sequence[Stage], epoch: int, epochs: int) -> Stage:
    """The stage of ``epoch`` (from 1) of ``epochs``."""
    end = 0.0
    for stage in stages[:-1]:
        end += stage.share * epochs
        if epoch <= end:
            return stage
    return stages[-1]
