"""Views: one augmented version of one image, the same for every process that asks for it.

The parameters of image i in epoch e are a pure function of (seed, e, i): they depend neither on
the batch that the image stands in nor on how many views were drawn before. All arithmetic on
pixels is in whole numbers, so a view is the same on every device and with any number of threads.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment import geometric
from kdcore.data.augment.geometric import CropFlips, crop_flips, of_part, resized_crops
from kdcore.data.augment.randaugment import randaugment
from kdcore.data.rng import fold, stream
from kdcore.schema.augmentation import (
    MIXING,
    AnyAugmentation,
    CropFlip,
    Cutout,
    RandAugment,
    RandomResizedCrop,
    as_augmentations,
)

__all__ = ["VIEW_FORMAT", "CropFlips", "crop_flips", "order", "resized_crops", "view"]

VIEW_FORMAT = 2
"""Another number whenever the bytes of some view become others: kept answers belong to views of one
format, and a training that goes on with views of another one is not exact."""
_ELSEWHERE = ("none", *MIXING)
_BLOCK = 1 << 19
"""Values that a processor works on at once: what lies between two steps then stays in its cache."""
_ORDER = 2
"""Streams of one seed: its views and its orders never share a random number."""

_Change = Callable[[Tensor, slice], Tensor]
"""From the images of a part of the batch to what they become."""


def order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """The sample ids 0..num_samples-1 in the order of this epoch: sorted by random keys."""
    ids = np.arange(num_samples)
    return np.argsort(stream(fold(seed, _ORDER, epoch), ids, 0), kind="stable")


def view(
    images: Tensor,
    ids: NDArray[np.int64],
    augmentation: AnyAugmentation | tuple[AnyAugmentation, ...],
    *,
    seed: int,
    epoch: int,
) -> Tensor:
    """The views (B, C, H, W) of ``images`` (B, C, H, W), uint8, in ``epoch`` (from 1).

    ``ids`` (B,) are the images' places in their split. Several augmentations are applied in their
    order. Mixup and cutmix are not done here: they need the batch (kdcore.data.augment.mixup).
    """
    several = tuple(one for one in as_augmentations(augmentation) if one.type not in _ELSEWHERE)
    if not several:
        return images
    # Crops are drawn for the whole batch at once: small arrays cost more than one of them all.
    changes = [_change(images, ids, one, seed, epoch) for one in several]
    block = max(1, _BLOCK // images[0].numel()) if images.device.type == "cpu" else len(images)
    if len(images) <= block:
        return _changed(images, changes, slice(None))
    parts = [slice(start, start + block) for start in range(0, len(images), block)]
    return torch.cat([_changed(images[part], changes, part) for part in parts])


def _changed(images: Tensor, changes: Sequence[_Change], part: slice) -> Tensor:
    for change in changes:
        images = change(images, part)
    return images


def _change(
    images: Tensor, ids: NDArray[np.int64], one: AnyAugmentation, seed: int, epoch: int
) -> _Change:
    """What ``one`` does to a part of the batch ``images`` whose samples are ``ids``."""
    if isinstance(one, CropFlip):
        drawn, padding = crop_flips(seed, epoch, ids, one), one.padding or 0
        return lambda some, part: geometric.crop(some, of_part(drawn, part), padding)
    if isinstance(one, RandomResizedCrop):
        boxes = resized_crops(seed, epoch, ids, one, size=(images.shape[2], images.shape[3]))
        return lambda some, part: geometric.resized(some, of_part(boxes, part))
    if isinstance(one, Cutout):
        return lambda some, part: geometric.cutout(some, ids[part], one, seed=seed, epoch=epoch)
    if isinstance(one, RandAugment):
        return lambda some, part: randaugment(some, ids[part], one, seed=seed, epoch=epoch)
    raise ValueError(f"{one.type} is no change of single images")
