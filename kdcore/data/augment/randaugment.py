"""RandAugment on batches: each image draws its own changes (Cubuk et al. 2020, arXiv 1909.13719).

The images of a batch are grouped by what they drew: one call per kind, not per image.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment import color
from kdcore.data.augment.geometric import affine
from kdcore.data.rng import below, fold, stream
from kdcore.data.transfer import placed
from kdcore.schema.augmentation import RandAugment

_STREAM = 6
_MOST = 30
"""The largest magnitude."""
_SHEAR, _DEGREES, _FACTOR = 0.3, 30.0, 0.9
_SHIFT = 150 / 331
"""Largest shift, in sides: the paper's 150 pixels of 331."""

Ints = NDArray[np.int64]
Signs = NDArray[np.float64]
Change = Callable[[Tensor, Signs, float], Tensor]
"""images (n, C, H, W), signs (n,) of -1 and 1, strength in 0..1 -> images."""


def _identity(images: Tensor, _signs: Signs, _strength: float) -> Tensor:
    return images


def _plain(change: Callable[[Tensor], Tensor], images: Tensor, *_: object) -> Tensor:
    return change(images)


def _scaled(
    change: Callable[[Tensor, Tensor], Tensor], images: Tensor, signs: Signs, strength: float
) -> Tensor:
    return change(images, torch.from_numpy(1 + _FACTOR * strength * signs))


def _posterize(images: Tensor, _signs: Signs, strength: float) -> Tensor:
    return color.posterize(images, 8 - round(4 * strength))


def _solarize(images: Tensor, _signs: Signs, strength: float) -> Tensor:
    return color.solarize(images, round(256 * (1 - strength)))


def _moved(place: tuple[int, int], most: float, images: Tensor, signs: Signs, s: float) -> Tensor:
    maps = np.tile(np.eye(2, 3), (len(signs), 1, 1))
    # A shift is a share of the side; whole pixels, as in the paper.
    amount = np.rint(most * s * images.shape[3 - place[0]]) if place[1] == 2 else most * s
    maps[:, place[0], place[1]] = signs * amount
    return affine(images, maps)


def _rotate(images: Tensor, signs: Signs, strength: float) -> Tensor:
    angles = np.deg2rad(_DEGREES * strength) * signs
    cos, sin, none = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    maps = np.stack([np.stack([cos, -sin, none], 1), np.stack([sin, cos, none], 1)], 1)
    return affine(images, maps)


CHANGES: dict[str, Change] = {
    "identity": _identity,
    "autocontrast": partial(_plain, color.autocontrast),
    "equalize": partial(_plain, color.equalize),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "color": partial(_scaled, color.color),
    "contrast": partial(_scaled, color.contrast),
    "brightness": partial(_scaled, color.brightness),
    "sharpness": partial(_scaled, color.sharpness),
    "shear_x": partial(_moved, (0, 1), _SHEAR),
    "shear_y": partial(_moved, (1, 0), _SHEAR),
    "translate_x": partial(_moved, (0, 2), _SHIFT),
    "translate_y": partial(_moved, (1, 2), _SHIFT),
}
"""By the names of the paper, in a fixed order: what a seed draws depends on it."""


def drawn(
    seed: int, epoch: int, ids: Ints, augmentation: RandAugment
) -> list[tuple[Ints, NDArray[np.float64]]]:
    """For each change in turn: which of :data:`CHANGES` (B,) the ids got, and its sign (B,)."""
    key = fold(seed, _STREAM, epoch)
    return [
        (
            below(stream(key, ids, 2 * turn), len(CHANGES)),
            np.where(below(stream(key, ids, 2 * turn + 1), 2) == 1, 1.0, -1.0),
        )
        for turn in range(augmentation.num_ops)
    ]


def randaugment(
    images: Tensor, ids: Ints, augmentation: RandAugment, *, seed: int, epoch: int
) -> Tensor:
    """Views (B, C, H, W) uint8 of ``images``, C = 1 or 3, whose sample ids are ``ids`` (B,)."""
    strength = augmentation.magnitude / _MOST
    changes = list(CHANGES.values())
    for kinds, signs in drawn(seed, epoch, ids, augmentation):
        changed = images.clone()
        for kind in np.unique(kinds):
            chosen = np.flatnonzero(kinds == kind)
            rows = placed(chosen, images.device)
            changed.index_copy_(0, rows, changes[kind](images[rows], signs[chosen], strength))
        images = changed
    return images
