"""Cross-entropy with the labels that there are: smoothed, weighted by class, mixed, or missing."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import UNLABELED, Batch, DataFacts
from kdcore.methods.common.full_precision import at_least_float32
from kdcore.runtime.errors import UserError

CROSS_ENTROPY = "cross_entropy"


@dataclass(frozen=True)
class LabelLoss:
    """How the true labels teach."""

    weight: float
    """The job's ``label_weight``; 0 leaves them out."""
    smoothing: float = 0.0
    """Share of the label that is spread over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Tensor | None = None  # (C,)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """Unweighted cross-entropy of logits (B, C), mean over the labeled images.

        None where no label counts. A batch without a labeled image gives a zero with a gradient.
        """
        if self.weight == 0 or batch.target is None:
            return None
        z = at_least_float32(logits)
        # As torch's own mean does: over the sum of the weights of the targets.
        losses, total_weight = (
            self._losses(z, batch.target),
            self._label_weights(z, batch.target).sum(),
        )
        if batch.mix is not None:
            # An unlabeled partner says nothing; the labeled one then counts by its share alone.
            share = batch.mix.share.to(z)
            losses = share * losses + (1 - share) * self._losses(z, batch.mix.target)
            # Equal sums, as everyone is somebody's partner; but not within a part of a batch.
            total_weight = (total_weight + self._label_weights(z, batch.mix.target).sum()) / 2
        return losses.sum() / total_weight.clamp_min(torch.finfo(z.dtype).tiny)

    def _losses(self, z: Tensor, target: Tensor) -> Tensor:
        """(B,): 0 for an image without a label, or of a class that has no weight."""
        weights = None if self.class_weights is None else self.class_weights.to(z)
        losses = functional.cross_entropy(
            z,
            target,
            weight=weights,
            ignore_index=UNLABELED,
            label_smoothing=self.smoothing,
            reduction="none",
        )
        # Smoothing lets a class of weight 0 say something of the others: here it says nothing.
        return losses if weights is None else losses.where(self._label_weights(z, target) > 0, 0.0)

    def _label_weights(self, z: Tensor, target: Tensor) -> Tensor:
        """(B,): the weight of each image's class, 0 for an image without a label."""
        labeled = target != UNLABELED
        if self.class_weights is None:
            return labeled.to(z)
        return self.class_weights.to(z)[target.clamp_min(0)] * labeled


def all_labels(data: DataFacts, method: str) -> Tensor:
    """Labels (num_samples,) of the training split; ``UserFault`` where any image has none."""
    if data.targets is None or bool((data.targets == UNLABELED).any()):
        raise UserError(
            "dataset_invalid",
            f"{method} needs a label for every training image, and some have none",
            hint="Leave the unlabeled images out, or choose a method that needs no labels: kd.",
        )
    return data.targets


def hard_labels(batch: Batch, method: str) -> Tensor:
    """Labels (B,) of a batch, one for each image; ``UserFault`` where they are missing or mixed."""
    if batch.target is None or batch.mix is not None:
        reason = "this batch has none" if batch.target is None else "mixup and cutmix give two"
        raise UserError(
            "dataset_invalid",
            f"{method} needs one true label for each image, and {reason}",
            hint="Choose another augmentation, or a method that needs no labels: kd.",
        )
    return batch.target


def require_labels(target: Tensor, num_classes: int, loss: str) -> None:
    """Raise ``ValueError`` where a label of ``target`` (B,) is not from 0 to ``num_classes`` - 1.

    Looks on the CPU alone: on an accelerator it would wait for the device at every step.
    """
    if target.device.type == "cpu" and bool(torch.any((target < 0) | (target >= num_classes))):
        raise ValueError(
            f"{loss} needs a label from 0 to {num_classes - 1} for every image, and this batch has "
            f"labels from {int(target.min())} to {int(target.max())}"
        )
