"""Method: the contract between a method and the training loop."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kdcore.schema.methods import MethodParams, Need

_AFTER_WARMUP = 10**9
"""An epoch after any warm-up."""
UNLABELED = -1
"""The target of an image that has no label."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network for one batch. Outputs that no method needs are left out.

    Student and teacher have the same number of maps; methods compare maps of equal index.
    """

    logits: Tensor  # (B, C)
    pooled: Tensor | None = None  # (B, D) the vector before the classifier
    maps: Sequence[Tensor] = ()  # (B, C_i, H_i, W_i) one per tap, shallow to deep


@dataclass(frozen=True)
class MixedLabels:
    """A second label per image, where mixup or cutmix made one view of two images."""

    target: Tensor  # (B,) int64, of the partner
    share: Tensor  # (B,) float, the first label's share; the partner has the rest


@dataclass(frozen=True)
class Batch:
    """Labels and position of one batch, without its images."""

    target: Tensor | None  # (B,) int64, UNLABELED for some; None where no image has a label
    index: Tensor  # (B,) int64 sample ids
    epoch: int  # from 1
    step: int  # from 1, within this training
    mix: MixedLabels | None = None
    view: int = 0  # number of the view, from 1; 0 where views are fresh


@dataclass(frozen=True)
class DataFacts:
    """Facts of the training split that a method may use to build adapters and memories."""

    num_samples: int
    num_classes: int
    targets: Tensor | None  # (num_samples,) int64


@dataclass(frozen=True)
class Stage:
    """A part of the training, and the terms that are active in it.

    A term is active when the current stages of all methods of the sum allow it.
    """

    share: float
    """Share of the training's steps."""
    only_terms: frozenset[str] | None = None
    """If set, all other terms are inactive, cross-entropy and other methods included. Where several
    methods are in such a stage, the terms of all of them are active."""
    excluded_terms: frozenset[str] = frozenset()
    """Inactive terms."""


class Method(nn.Module):
    """One thing to distill.

    Its parameters are trained with the student's, and its buffers are saved with the student's.
    What the catalog says about the method is read from ``params``.
    """

    temperature: float = 1.0
    """Temperature at which the outputs of several teachers are averaged into one."""

    def __init__(self, params: MethodParams) -> None:
        super().__init__()
        self.needs: frozenset[Need] = frozenset(params.needs)
        self.uses_teacher = params.uses_teacher
        self.name = params.type
        resolved = params.resolved_weight
        self.has_auto_weight = resolved == "auto"
        """Whether the training finds its weight and sets it before each step."""
        self.weight: float = params.published_weight if resolved == "auto" else resolved
        """Factor of each of its terms, unless :meth:`weight_of` returns another."""

    def build(self, student: Outputs, teacher: Outputs | None, data: DataFacts) -> None:
        """Create adapters and memories for outputs of these shapes, from one small batch."""

    def stages(self) -> tuple[Stage, ...]:
        """The parts of the training, in their order. Most methods have one stage."""
        return (Stage(share=1.0),)

    def enter_stage(self, stage: Stage) -> None:
        """Called before each step of ``stage``: freeze what the stage does not train."""

    def weight_of(self, term: str, epoch: int) -> float:
        """The factor of ``term`` in ``epoch`` (from 1)."""
        return self.weight

    def factor_of(self, term: str) -> float:
        """The part of a term's factor that is multiplied with the method's weight, after any
        warm-up; 0 where :meth:`weight_of` does not use the weight."""
        weight = self.weight
        self.weight = 1.0
        factor = self.weight_of(term, _AFTER_WARMUP)
        self.weight = 0.0
        factor -= self.weight_of(term, _AFTER_WARMUP)
        self.weight = weight
        return factor

    def commit_batch(self) -> None:
        """Called when the gradients of a batch are complete: store what ``forward`` recorded.

        ``forward`` may have processed the batch in several parts.
        """

    def discard_batch(self) -> None:
        """Called when a batch is retried after running out of memory.

        Discard anything that ``forward`` recorded for it.
        """

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms, each a scalar."""
        raise NotImplementedError
