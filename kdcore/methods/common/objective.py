"""The sum that a student minimises: cross-entropy with the labels and the methods' terms."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, DataFacts, Method, Outputs, Stage
from kdcore.methods.common.cross_entropy import CROSS_ENTROPY, LabelLoss
from kdcore.methods.common.teacher_ensemble import combine_teachers
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
        self,
        methods: Sequence[Method],
        label_loss: LabelLoss,
        teacher_weights: Sequence[float],
        steps: int,
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self.label_loss = label_loss
        self.teacher_weights = tuple(teacher_weights)
        self.steps = steps

    @property
    def uses_teacher(self) -> bool:
        """Whether any method looks at a teacher."""
        return any(method.uses_teacher for method in self._methods())

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to say: no method is taught and labels do not count."""
        return not self.uses_teacher and self.label_loss.weight == 0

    @property
    def needs(self) -> frozenset[Need]:
        """All that the methods need of networks and batches together."""
        return frozenset[Need]().union(*(method.needs for method in self._methods()))

    def in_adapter_stage(self, step: int) -> bool:
        """Whether in ``step`` (from 1) some method's own terms count and nothing else does."""
        return any(stage.only_terms is not None for stage in self._stages(step))

    def build(self, student: Outputs, teachers: Sequence[Outputs], data: DataFacts) -> None:
        """Let every method make its adapters and memories from one small batch's outputs."""
        for method in self._methods():
            method.build(student, self._teacher_outputs(method, teachers), data)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Loss:
        """The loss of one batch; ``teachers`` is empty where no method is taught."""
        terms: dict[str, Tensor] = {}
        weighted: list[Tensor] = []
        stages = self._stages(batch.step)
        for method, stage in zip(self._methods(), stages, strict=True):
            method.enter_stage(stage)
        label_term = self.label_loss.cross_entropy(student.logits, batch)
        if label_term is not None and _is_active(CROSS_ENTROPY, stages):
            terms[CROSS_ENTROPY] = label_term
            weighted.append(self.label_loss.weight * label_term)
        for method in self._methods():
            for name, term in method(
                student, self._teacher_outputs(method, teachers), batch
            ).items():
                if _is_active(name, stages):
                    terms[name] = term
                    weighted.append(method.weight_of(name, batch.epoch) * term)
        if not weighted:
            # A stage in which nothing counts would be a bug of its method, and must not pass for 0.
            raise ValueError(f"no term counts in step {batch.step}")
        return Loss(torch.stack(weighted).sum(), terms)

    def commit_batch(self) -> None:
        """Let every method keep what it saw of a batch whose gradients are whole."""
        for method in self._methods():
            method.commit_batch()

    def discard_batch(self) -> None:
        """Let every method drop what it saw of a batch that comes again."""
        for method in self._methods():
            method.discard_batch()

    def _teacher_outputs(self, method: Method, teachers: Sequence[Outputs]) -> Outputs | None:
        if not method.uses_teacher or not teachers:
            return None
        return combine_teachers(teachers, self.teacher_weights, method.temperature)

    def _stages(self, step: int) -> list[Stage]:
        return [stage_at(method.stages(), step, self.steps) for method in self._methods()]

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method)]


def _is_active(term: str, stages: Sequence[Stage]) -> bool:
    # Two methods may begin with a stage of their own each: then both of these are trained at once.
    alone = [stage.only_terms for stage in stages if stage.only_terms is not None]
    included = not alone or any(term in only for only in alone)
    return included and not any(term in stage.excluded_terms for stage in stages)


def stage_at(stages: Sequence[Stage], step: int, steps: int) -> Stage:
    """The stage of ``step`` (from 1) of ``steps``."""
    end = 0.0
    for stage in stages[:-1]:
        end += stage.share * steps
        if step <= round(end):
            return stage
    return stages[-1]
