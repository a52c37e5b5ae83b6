"""The contract between a method and the training loop."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from kdcore.spec.methods import Need


@dataclass(frozen=True)
class Outputs:
    """What a network gave for one batch. What no method needs is not taken."""

    logits: Tensor  # (B, C)
    pooled: Tensor | None = None  # (B, D) the vector before the classifier
    maps: tuple[Tensor, ...] = ()  # (B, C_i, H_i, W_i) one per tap, shallow to deep


@dataclass(frozen=True)
class Batch:
    """What is known of one batch beside its images."""

    target: Tensor | None  # (B,) int64; None where the images have no labels
    index: Tensor  # (B,) int64 sample ids
    epoch: int  # from 1
    step: int  # from 1, within this training


@dataclass(frozen=True)
class DataFacts:
    """What a method may know of the training split when it builds what it trains."""

    num_samples: int
    num_classes: int
    targets: Tensor | None  # (num_samples,) int64


@dataclass(frozen=True)
class Stage:
    """A part of the training, by its share of the epochs, and the terms that count in it."""

    share: float
    terms: frozenset[str] | None = None
    """Names of the terms, cross-entropy among them; None means all."""


class Method(nn.Module):
    """One thing to distil. Its parameters are trained and its buffers kept with the student's."""

    needs: ClassVar[frozenset[Need]]
    taught: ClassVar[bool] = True
    """Whether it looks at a teacher at all."""
    temperature: float = 1.0
    """Temperature at which several teachers are averaged into the one that it sees."""
    weight: float = 1.0
    """What the loop multiplies each of its terms with."""

    def build(self, student: Outputs, teacher: Outputs | None, data: DataFacts) -> None:
        """Make adapters and memories, given what both networks gave for one small batch."""

    def stages(self) -> tuple[Stage, ...]:
        """What trains when. Most methods have one stage."""
        return (Stage(share=1.0),)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms, each a scalar."""
        raise NotImplementedError
