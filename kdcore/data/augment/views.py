"""Apply augmentations to a batch: a view is one augmented version of one image.

The parameters of image i in epoch e are a pure function of (seed, e, i): they depend neither on the
batch of the image nor on views that were drawn before. All arithmetic on pixels is in integers, so
a view is equal on every device, in every process and with any number of threads.

RandAugment: Cubuk et al. 2020, https://arxiv.org/abs/1909.13719. Every image draws its operations.
The images of a batch are grouped by operation, so that there is one call for each operation and not
one for each image.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment import color, geometric
from kdcore.data.augment.geometric import (
    CropFlipParams,
    affine,
    crop_flip_params,
    resized_crop_params,
    slice_params,
)
from kdcore.data.rng import bounded_integers, derive_key, random_bits
from kdcore.data.transfer import array_to_device
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


_STREAM = 6
_MAX_MAGNITUDE = 30
"""The largest magnitude of the paper."""
_SHEAR, _DEGREES, _FACTOR = 0.3, 30.0, 0.9
_MAX_SHIFT = 150 / 331
"""Largest shift as a share of the side: the paper's 150 of 331 pixels."""

Ints = NDArray[np.int64]
Signs = NDArray[np.float64]
Operation = Callable[[Tensor, Signs, float], Tensor]
"""From images (n, C, H, W), signs (n,) of -1 and 1, and a strength in 0..1 to images."""


def _identity(images: Tensor, _signs: Signs, _strength: float) -> Tensor:
    return images


def _apply_unsigned(operation: Callable[[Tensor], Tensor], images: Tensor, *_: object) -> Tensor:
    return operation(images)


def _apply_factor(
    operation: Callable[[Tensor, Tensor], Tensor], images: Tensor, signs: Signs, strength: float
) -> Tensor:
    return operation(images, torch.from_numpy(1 + _FACTOR * strength * signs))


def _posterize(images: Tensor, _signs: Signs, strength: float) -> Tensor:
    return color.posterize(images, 8 - round(4 * strength))


def _solarize(images: Tensor, _signs: Signs, strength: float) -> Tensor:
    return color.solarize(images, round(256 * (1 - strength)))


def _apply_affine(
    matrix_index: tuple[int, int], max_amount: float, images: Tensor, signs: Signs, strength: float
) -> Tensor:
    maps = np.tile(np.eye(2, 3), (len(signs), 1, 1))
    # A shift is a share of the side, rounded to pixels as in the paper.
    amount = (
        np.rint(max_amount * strength * images.shape[3 - matrix_index[0]])
        if matrix_index[1] == 2
        else max_amount * strength
    )
    maps[:, matrix_index[0], matrix_index[1]] = signs * amount
    return affine(images, maps)


def _rotate(images: Tensor, signs: Signs, strength: float) -> Tensor:
    angles = np.deg2rad(_DEGREES * strength) * signs
    cos, sin, none = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    maps = np.stack([np.stack([cos, -sin, none], 1), np.stack([sin, cos, none], 1)], 1)
    return affine(images, maps)


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "autocontrast": partial(_apply_unsigned, color.autocontrast),
    "equalize": partial(_apply_unsigned, color.equalize),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "color": partial(_apply_factor, color.color),
    "contrast": partial(_apply_factor, color.contrast),
    "brightness": partial(_apply_factor, color.brightness),
    "sharpness": partial(_apply_factor, color.sharpness),
    "shear_x": partial(_apply_affine, (0, 1), _SHEAR),
    "shear_y": partial(_apply_affine, (1, 0), _SHEAR),
    "translate_x": partial(_apply_affine, (0, 2), _MAX_SHIFT),
    "translate_y": partial(_apply_affine, (1, 2), _MAX_SHIFT),
}
"""By the names of the paper. The order is fixed, because the draws of a seed depend on it."""


def draw_operations(
    seed: int, epoch: int, ids: Ints, augmentation: RandAugment
) -> list[tuple[Ints, NDArray[np.float64]]]:
    """Draw, for each operation: an index (B,) into :data:`OPERATIONS`, and a sign (B,)."""
    key = derive_key(seed, _STREAM, epoch)
    return [
        (
            bounded_integers(random_bits(key, ids, 2 * op_index), len(OPERATIONS)),
            np.where(bounded_integers(random_bits(key, ids, 2 * op_index + 1), 2) == 1, 1.0, -1.0),
        )
        for op_index in range(augmentation.num_ops)
    ]


def randaugment(
    images: Tensor, ids: Ints, augmentation: RandAugment, *, seed: int, epoch: int
) -> Tensor:
    """Apply RandAugment to ``images`` (B, C, H, W) uint8, C = 1 or 3, of the sample ids (B,)."""
    strength = augmentation.magnitude / _MAX_MAGNITUDE
    operations = list(OPERATIONS.values())
    for kinds, signs in draw_operations(seed, epoch, ids, augmentation):
        changed = images.clone()
        for kind in np.unique(kinds):
            chosen = np.flatnonzero(kinds == kind)
            rows = array_to_device(chosen, images.device)
            changed.index_copy_(0, rows, operations[kind](images[rows], signs[chosen], strength))
        images = changed
    return images
