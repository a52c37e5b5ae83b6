"""Apply augmentations to a batch: a view is one augmented version of one image.

The parameters of image i in epoch e are a pure function of (seed, e, i): they depend neither on the
batch of the image nor on views that were drawn before. All arithmetic on pixels is in integers, so
a view is equal on every device, in every process and with any number of threads.
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
"""Raise this number whenever the bytes of some view change: cached teacher outputs belong to views
of one format, and a training that resumes with views of another format is not exact."""
_NOT_PER_IMAGE = ("none", *MIXING)
BLOCK_VALUES = 1 << 19
"""Values that the CPU processes at once, so that intermediate results stay in its cache."""
_ORDER_STREAM = 2
"""Random stream of the orders: views and orders of one seed never share a number."""

_Transform = Callable[[Tensor, slice], Tensor]
"""From some images of the batch, and their rows, to the augmented images."""


def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Return the sample ids 0..num_samples-1 in the order of this epoch: sorted by random keys."""
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
    """Return the views (B, C, H, W) uint8 of ``images`` (B, C, H, W) uint8 in ``epoch`` (from 1).

    ``ids`` (B,) are the images' indices in their split. Augmentations are applied in their order;
    mixup and cutmix are skipped, because they need the batch (:mod:`kdcore.data.augment.mixup`).
    ``block_values`` is the number of pixel values that the CPU processes at once.
    """
    augmentations = tuple(
        single for single in as_augmentations(augmentation) if single.type not in _NOT_PER_IMAGE
    )
    if not augmentations:
        return images
    # Parameters are drawn for the batch at once, because many small arrays are slower.
    transforms = [_make_transform(images, ids, single, seed, epoch) for single in augmentations]
    on_cpu = images.device.type == "cpu"
    block = max(1, block_values // images[0].numel()) if on_cpu else len(images)
    if len(images) <= block:
        return _apply_transforms(images, transforms, slice(None))
    parts = [slice(start, start + block) for start in range(0, len(images), block)]
    return torch.cat([_apply_transforms(images[part], transforms, part) for part in parts])


def _apply_transforms(images: Tensor, transforms: Sequence[_Transform], part: slice) -> Tensor:
    for transform in transforms:
        images = transform(images, part)
    return images


def _make_transform(
    images: Tensor, ids: NDArray[np.int64], augmentation: AnyAugmentation, seed: int, epoch: int
) -> _Transform:
    """Return the transform of ``augmentation`` for rows of ``images`` with the sample ``ids``."""
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
    raise ValueError(f"{augmentation.type} does not apply to single images")
