"""The one true label that some methods need of every image."""

import torch
from torch import Tensor

from kdcore.methods.base import UNLABELED, Batch, DataFacts
from kdcore.runtime.errors import UserError


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
