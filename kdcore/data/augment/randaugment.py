"""RandAugment on batches (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719).

Every image draws its operations. The images of a batch are grouped by operation, so that there is
one call for each operation and not one for each image.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment import color
from kdcore.data.augment.geometric import affine
from kdcore.data.rng import bounded_integers, derive_key, random_bits
from kdcore.data.transfer import array_to_device
from kdcore.schema.augmentation import RandAugment

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
