"""Views: one augmented version of one image, the same for every process that asks for it.

The parameters of image i in epoch e are a pure function of (seed, e, i): they depend neither on
the batch that the image stands in nor on how many views were drawn before. All arithmetic on
pixels is in whole numbers, so a view is the same on every device and with any number of threads.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data import geometry
from kdcore.data.counter import fold, stream
from kdcore.data.geometry import CropFlips, crop_flips, resized_crops
from kdcore.data.randaugment import randaugment
from kdcore.spec.augmentation import (
    MIXING,
    AnyAugmentation,
    CropFlip,
    Cutout,
    RandAugment,
    RandomResizedCrop,
    as_augmentations,
)

__all__ = ["CropFlips", "crop_flips", "order", "resized_crops", "view"]

_ELSEWHERE = ("none", *MIXING)
_BLOCK = 1 << 19
"""Values that a processor works on at once: what lies between two steps then stays in its cache."""
_ORDER = 2
"""Streams of one seed: its views and its orders never share a random number."""


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
    order. Mixup and cutmix are not done here: they need the batch (kdcore.data.mixing).
    """
    several = tuple(one for one in as_augmentations(augmentation) if one.type not in _ELSEWHERE)
    if not several:
        return images
    block = max(1, _BLOCK // images[0].numel()) if images.device.type == "cpu" else len(images)
    if len(images) <= block:
        return _views(images, ids, several, seed, epoch)
    starts = range(0, len(images), block)
    pieces = ((images[at : at + block], ids[at : at + block]) for at in starts)
    return torch.cat([_views(*piece, several, seed, epoch) for piece in pieces])


def _views(
    images: Tensor,
    ids: NDArray[np.int64],
    augmentations: tuple[AnyAugmentation, ...],
    seed: int,
    epoch: int,
) -> Tensor:
    for one in augmentations:
        if isinstance(one, CropFlip):
            padding = one.padding or 0
            images = geometry.crop(images, crop_flips(seed, epoch, ids, one), padding)
        elif isinstance(one, RandomResizedCrop):
            boxes = resized_crops(seed, epoch, ids, one, size=(images.shape[2], images.shape[3]))
            images = geometry.resized(images, boxes)
        elif isinstance(one, Cutout):
            images = geometry.cutout(images, ids, one, seed=seed, epoch=epoch)
        elif isinstance(one, RandAugment):
            images = randaugment(images, ids, one, seed=seed, epoch=epoch)
    return images
