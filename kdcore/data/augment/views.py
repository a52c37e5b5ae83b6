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
from kdcore.data.augment.geometric import (
    CropFlipParams,
    crop_flip_params,
    resized_crop_params,
    slice_params,
)
from kdcore.data.augment.randaugment import randaugment
from kdcore.data.rng import derive_key, random_bits
from kdcore.schema.augmentation import (
    MIXING,
    AnyAugmentation,
    CropFlip,
    Cutout,
    RandAugment,
    RandomResizedCrop,
    as_augmentations,
)

__all__ = [
    "VIEW_FORMAT",
    "CropFlipParams",
    "augment",
    "crop_flip_params",
    "epoch_order",
    "resized_crop_params",
]

VIEW_FORMAT = 2
"""Another number whenever the bytes of some view become others: kept answers belong to views of one
format, and a training that goes on with views of another one is not exact."""
_NOT_PER_IMAGE = ("none", *MIXING)
BLOCK_VALUES = 1 << 19
"""Values that a processor works on at once: what lies between two steps then stays in its cache."""
_ORDER_STREAM = 2
"""Streams of one seed: its views and its orders never share a random number."""

_Transform = Callable[[Tensor, slice], Tensor]
"""From the images of a part of the batch to what they become."""


def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """The sample ids 0..num_samples-1 in the order of this epoch: sorted by random keys."""
    ids = np.arange(num_samples)
    return np.argsort(random_bits(derive_key(seed, _ORDER_STREAM, epoch), ids, 0), kind="stable")


def augment(
    images: Tensor,
    ids: NDArray[np.int64],
    augmentation: AnyAugmentation | tuple[AnyAugmentation, ...],
    *,
    seed: int,
    epoch: int,
    block_values: int = BLOCK_VALUES,
) -> Tensor:
    """The views (B, C, H, W) of ``images`` (B, C, H, W), uint8, in ``epoch`` (from 1).

    ``ids`` (B,) are the images' places in their split. Several augmentations are applied in their
    order. Mixup and cutmix are not done here: they need the batch (kdcore.data.augment.mixup).
    """
    augmentations = tuple(
        single for single in as_augmentations(augmentation) if single.type not in _NOT_PER_IMAGE
    )
    if not augmentations:
        return images
    # Crops are drawn for the whole batch at once: small arrays cost more than one of them all.
    changes = [_make_transform(images, ids, single, seed, epoch) for single in augmentations]
    on_cpu = images.device.type == "cpu"
    block = max(1, block_values // images[0].numel()) if on_cpu else len(images)
    if len(images) <= block:
        return _apply_transforms(images, changes, slice(None))
    parts = [slice(start, start + block) for start in range(0, len(images), block)]
    return torch.cat([_apply_transforms(images[part], changes, part) for part in parts])


def _apply_transforms(images: Tensor, changes: Sequence[_Transform], part: slice) -> Tensor:
    for change in changes:
        images = change(images, part)
    return images


def _make_transform(
    images: Tensor, ids: NDArray[np.int64], augmentation: AnyAugmentation, seed: int, epoch: int
) -> _Transform:
    """What ``one`` does to a part of the batch ``images`` whose samples are ``ids``."""
    if isinstance(augmentation, CropFlip):
        params, padding = (
            crop_flip_params(seed, epoch, ids, augmentation),
            augmentation.padding or 0,
        )
        return lambda some, part: geometric.crop_and_flip(some, slice_params(params, part), padding)
    if isinstance(augmentation, RandomResizedCrop):
        boxes = resized_crop_params(
            seed, epoch, ids, augmentation, size=(images.shape[2], images.shape[3])
        )
        return lambda some, part: geometric.resized_crop(some, slice_params(boxes, part))
    if isinstance(augmentation, Cutout):
        return lambda some, part: geometric.cutout(
            some, ids[part], augmentation, seed=seed, epoch=epoch
        )
    if isinstance(augmentation, RandAugment):
        return lambda some, part: randaugment(some, ids[part], augmentation, seed=seed, epoch=epoch)
    raise ValueError(f"{augmentation.type} is no change of single images")
