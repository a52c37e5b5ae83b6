"""Cross-entropy with the labels that there are: smoothed, weighted by class, mixed, or missing."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import UNLABELLED, Batch
from kdcore.methods.precision import at_least_float32

CROSS_ENTROPY = "cross_entropy"


@dataclass(frozen=True)
class Labels:
    """How the true labels teach."""

    weight: float
    """The job's ``label_weight``; 0 leaves them out."""
    smoothing: float = 0.0
    """Share of the label that is spread over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Tensor | None = None  # (C,)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """Unweighted cross-entropy of logits (B, C), mean over the labelled images.

        None where no label counts. A batch without a labelled image gives a zero with a gradient.
        """
        if self.weight == 0 or batch.target is None:
            return None
        z = at_least_float32(logits)
        if batch.mix is None:
            return self._mean(self._each(z, batch.target), batch.target)
        first, second = self._each(z, batch.target), self._each(z, batch.mix.target)
        # An unlabelled partner says nothing; the labelled one then counts by its share alone.
        share = batch.mix.share.to(z)
        return self._mean(share * first + (1 - share) * second, batch.target)

    def _each(self, z: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(
            z,
            target,
            weight=self._class_weights(z),
            ignore_index=UNLABELLED,
            label_smoothing=self.smoothing,
            reduction="none",
        )

    def _mean(self, each: Tensor, target: Tensor) -> Tensor:
        labelled = target != UNLABELLED
        weights = self._class_weights(each)
        if weights is None:
            return each.sum() / labelled.sum().clamp_min(1)
        # As torch's own mean does: over the sum of the weights of the targets.
        counted = weights[target.clamp_min(0)] * labelled
        # Smoothing lets a class of weight 0 say something of the others: here it says nothing.
        each = torch.where(counted > 0, each, torch.zeros_like(each))
        return each.sum() / counted.sum().clamp_min(torch.finfo(each.dtype).tiny)

    def _class_weights(self, like: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(like)
