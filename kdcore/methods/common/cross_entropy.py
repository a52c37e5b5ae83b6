"""LabelLoss: cross-entropy with labels that may be smoothed, weighted by class, mixed or missing.

Functions at the end check labels for methods that need one label for every image.
"""

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
    """Cross-entropy with the true labels."""

    weight: float
    """The job's ``label_weight``; 0 disables the loss."""
    smoothing: float = 0.0
    """Share of the label that is spread over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Tensor | None = None  # (C,)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """Unweighted cross-entropy of logits (B, C), mean over the labeled images.

        None where the weight is 0 or the data has no labels. A batch without a labeled image gives
        0 with a gradient.
        """
        if self.weight == 0 or batch.target is None:
            return None
        z = at_least_float32(logits)
        # Like torch's mean, divide by the sum of the weights of the targets.
        losses, total_weight = (
            self._losses(z, batch.target),
            self._label_weights(z, batch.target).sum(),
        )
        if batch.mix is not None:
            # An unlabeled partner adds no loss; the labeled image counts by its share.
            share = batch.mix.share.to(z)
            losses = share * losses + (1 - share) * self._losses(z, batch.mix.target)
            # Both sums are equal in a full batch, and may differ in a part of one.
            total_weight = (total_weight + self._label_weights(z, batch.mix.target).sum()) / 2
        return losses.sum() / total_weight.clamp_min(torch.finfo(z.dtype).tiny)

    def _losses(self, z: Tensor, target: Tensor) -> Tensor:
        """Losses (B,): 0 for images without a label and for classes of weight 0."""
        weights = None if self.class_weights is None else self.class_weights.to(z)
        losses = functional.cross_entropy(
            z,
            target,
            weight=weights,
            ignore_index=UNLABELED,
            label_smoothing=self.smoothing,
            reduction="none",
        )
        # With smoothing, torch adds a loss for a class of weight 0.
        return losses if weights is None else losses.where(self._label_weights(z, target) > 0, 0.0)

    def _label_weights(self, z: Tensor, target: Tensor) -> Tensor:
        """Weights (B,) of the images' classes, 0 for images without a label."""
        labeled = target != UNLABELED
        if self.class_weights is None:
            return labeled.to(z)
        return self.class_weights.to(z)[target.clamp_min(0)] * labeled


def all_labels(data: DataFacts, method: str) -> Tensor:
    """Labels (num_samples,) of the training split.

    Raises ``UserError`` (dataset_invalid) where an image has none.
    """
    if data.targets is None or bool((data.targets == UNLABELED).any()):
        raise UserError(
            "dataset_invalid",
            f"{method} needs a label for every training image, and some have none",
            hint="Leave the unlabeled images out, or choose a method that needs no labels: kd.",
        )
    return data.targets


def hard_labels(batch: Batch, method: str) -> Tensor:
    """Labels (B,) of a batch, one for each image.

    Raises ``UserError`` (dataset_invalid) where labels are missing or mixed.
    """
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

    Checks tensors on the CPU only, because on an accelerator each check would wait for the device.
    """
    if target.device.type == "cpu" and bool(torch.any((target < 0) | (target >= num_classes))):
        raise ValueError(
            f"{loss} needs a label from 0 to {num_classes - 1} for every image, and this batch has "
            f"labels from {int(target.min())} to {int(target.max())}"
        )
