"""The sum that a student minimises: cross-entropy with the labels and the methods' terms."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, DataFacts, Method, Outputs, Stage
from kdcore.methods.common.cross_entropy import CROSS_ENTROPY, Labels
from kdcore.methods.common.teacher_ensemble import as_one
from kdcore.schema.methods import Need

__all__ = ["CROSS_ENTROPY", "Loss", "Objective", "stage_at"]


class Loss(NamedTuple):
    """One batch's loss: the weighted sum, and its terms by name before they are weighted."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """``labels.weight`` · cross-entropy + Σ weight · term over all methods.

    A module, so that what the methods train is in the optimizer and in the checkpoint.
    ``weights`` are the teachers' shares; ``steps`` the length of the training.
    """

    def __init__(
        self, methods: Sequence[Method], labels: Labels, weights: Sequence[float], steps: int
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self.labels = labels
        self.weights = tuple(weights)
        self.steps = steps

    @property
    def taught(self) -> bool:
        """Whether any method looks at a teacher."""
        return any(method.taught for method in self._methods())

    @property
    def idle(self) -> bool:
        """Whether it has nothing to say: no method is taught and labels do not count."""
        return not self.taught and self.labels.weight == 0

    @property
    def needs(self) -> frozenset[Need]:
        """All that the methods need of networks and batches together."""
        return frozenset[Need]().union(*(method.needs for method in self._methods()))

    def preparing(self, step: int) -> bool:
        """Whether in ``step`` (from 1) some method's own terms count and nothing else does."""
        return any(stage.only is not None for stage in self._stages(step))

    def build(self, student: Outputs, teachers: Sequence[Outputs], data: DataFacts) -> None:
        """Let every method make its adapters and memories from one small batch's outputs."""
        for method in self._methods():
            method.build(student, self._seen_by(method, teachers), data)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Loss:
        """The loss of one batch; ``teachers`` is empty where no method is taught."""
        terms: dict[str, Tensor] = {}
        weighted: list[Tensor] = []
        stages = self._stages(batch.step)
        for method, stage in zip(self._methods(), stages, strict=True):
            method.enter(stage)
        labelled = self.labels.loss(student.logits, batch)
        if labelled is not None and _counts(CROSS_ENTROPY, stages):
            terms[CROSS_ENTROPY] = labelled
            weighted.append(self.labels.weight * labelled)
        for method in self._methods():
            for name, term in method(student, self._seen_by(method, teachers), batch).items():
                if _counts(name, stages):
                    terms[name] = term
                    weighted.append(method.weight_of(name, batch.epoch) * term)
        if not weighted:
            # A stage in which nothing counts would be a bug of its method, and must not pass for 0.
            raise ValueError(f"no term counts in step {batch.step}")
        return Loss(torch.stack(weighted).sum(), terms)

    def remember(self) -> None:
        """Let every method keep what it saw of a batch whose gradients are whole."""
        for method in self._methods():
            method.remember()

    def forget(self) -> None:
        """Let every method drop what it saw of a batch that comes again."""
        for method in self._methods():
            method.forget()

    def _seen_by(self, method: Method, teachers: Sequence[Outputs]) -> Outputs | None:
        if not method.taught or not teachers:
            return None
        return as_one(teachers, self.weights, method.temperature)

    def _stages(self, step: int) -> list[Stage]:
        return [stage_at(method.stages(), step, self.steps) for method in self._methods()]

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method)]


def _counts(term: str, stages: Sequence[Stage]) -> bool:
    # Two methods may begin with a stage of their own each: then both of these are trained at once.
    alone = [stage.only for stage in stages if stage.only is not None]
    kept = not alone or any(term in only for only in alone)
    return kept and not any(term in stage.without for stage in stages)


def stage_at(stages: Sequence[Stage], step: int, steps: int) -> Stage:
    """The stage of ``step`` (from 1) of ``steps``."""
    end = 0.0
    for stage in stages[:-1]:
        end += stage.share * steps
        if step <= round(end):
            return stage
    return stages[-1]
