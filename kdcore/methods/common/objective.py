"""Objective: the total loss of a student, from cross-entropy and the terms of its methods."""

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
    """Loss of one batch: the weighted sum, and the unweighted terms by name."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """``label_loss.weight`` · cross-entropy + Σ weight · term over all methods.

    It is a module, so that the optimizer and the checkpoint include the parameters of the methods.
    ``teacher_weights`` are the teachers' shares, ``steps`` is the length of the training.
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
        self.label_weight = label_loss.weight
        """Factor of cross-entropy, which the training sets where the job has it found."""
        self.teacher_weights = tuple(teacher_weights)
        self.steps = steps
        self.term_weights: dict[str, float] = {}
        """Weights of the terms of the latest batch."""

    @property
    def uses_teacher(self) -> bool:
        """Whether any method uses a teacher."""
        return any(method.uses_teacher for method in self._methods())

    @property
    def is_empty(self) -> bool:
        """Whether it has no terms: no method uses a teacher, and the weight of the labels is 0."""
        return not self.uses_teacher and self.label_loss.weight == 0

    @property
    def needs(self) -> frozenset[Need]:
        """Everything that the methods read from outputs and batches."""
        return frozenset[Need]().union(*(method.needs for method in self._methods()))

    def in_adapter_stage(self, step: int) -> bool:
        """Whether ``step`` (from 1) is in a stage that trains only the terms of one method."""
        return any(stage.only_terms is not None for stage in self._stages(step))

    def build(self, student: Outputs, teachers: Sequence[Outputs], data: DataFacts) -> None:
        """Build all methods from the outputs of one small batch."""
        for method in self._methods():
            method.build(student, self._teacher_outputs(method, teachers), data)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Loss:
        """The loss of one batch; ``teachers`` is empty where no method uses a teacher.

        Raises ``ValueError`` for a step without an active term.
        """
        terms: dict[str, Tensor] = {}
        weighted: list[Tensor] = []
        stages = self._stages(batch.step)
        for method, stage in zip(self._methods(), stages, strict=True):
            method.enter_stage(stage)
        label_term = self.label_loss.cross_entropy(student.logits, batch)
        if label_term is not None and _is_active(CROSS_ENTROPY, stages):
            terms[CROSS_ENTROPY] = label_term
            self.term_weights[CROSS_ENTROPY] = self.label_weight
            weighted.append(self.label_weight * label_term)
        for method in self._methods():
            for name, term in method(
                student, self._teacher_outputs(method, teachers), batch
            ).items():
                if _is_active(name, stages):
                    terms[name] = term
                    self.term_weights[name] = weight = method.weight_of(name, batch.epoch)
                    weighted.append(weight * term)
        if not weighted:
            # A stage without active terms is a bug of its method; a loss of 0 would hide it.
            raise ValueError(f"no term is active in step {batch.step}")
        return Loss(torch.stack(weighted).sum(), terms)

    @property
    def auto_methods(self) -> dict[str, Method]:
        """The methods whose weight is ``auto``, by name."""
        return {method.name: method for method in self._methods() if method.has_auto_weight}

    def auto_terms(
        self, student: Outputs, teachers: Sequence[Outputs], batch: Batch
    ) -> dict[str, dict[str, Tensor]]:
        """The unweighted terms of each method whose weight is ``auto``, of all its stages."""
        terms = {}
        for name, method in self.auto_methods.items():
            method.enter_stage(method.stages()[0])
            terms[name] = method(student, self._teacher_outputs(method, teachers), batch)
        return terms

    def is_active(self, term: str, step: int) -> bool:
        """Whether ``term`` is part of the loss in ``step`` (from 1)."""
        return _is_active(term, self._stages(step))

    def commit_batch(self) -> None:
        """Call ``commit_batch`` of all methods."""
        for method in self._methods():
            method.commit_batch()

    def discard_batch(self) -> None:
        """Call ``discard_batch`` of all methods."""
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
    # Two methods may be in such a stage at once: then the terms of both are active.
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
