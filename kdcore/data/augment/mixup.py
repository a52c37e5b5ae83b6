"""Mixup and cutmix: each view is mixed with its partner, and so are their labels.

The partner of a view is the next view of the batch; the last view's partner is the first. Each
epoch has another order, so pairs are random. The mixing ratio is a function of seed, epoch and
sample id.

Sources: Zhang et al. 2018, https://arxiv.org/abs/1710.09412; Yun et al. 2019,
https://arxiv.org/abs/1905.04899.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment.geometric import box_mask
from kdcore.data.rng import bounded_integers, derive_key, random_bits, uniform
from kdcore.data.transfer import array_to_device
from kdcore.schema.augmentation import AnyAugmentation, Cutmix, Mixup

_STREAM = 7
_LEVELS = 256
"""Shares are multiples of 1 / 256, so that pixels and labels are mixed in exactly one ratio."""

Ints = NDArray[np.int64]


class MixedViews(NamedTuple):
    """A batch of mixed views."""

    images: Tensor  # (B, C, H, W) uint8
    share: Tensor  # (B,) float32, weight of the view's label; the partner has the rest


def find_mixing(augmentations: tuple[AnyAugmentation, ...]) -> Mixup | Cutmix | None:
    """Return the augmentation that mixes two views, or None."""
    mixing = (entry for entry in augmentations if isinstance(entry, Mixup | Cutmix))
    return next(mixing, None)


def partners(values: Tensor) -> Tensor:
    """Return the ``values`` (B, ...) of each sample's partner."""
    return values.roll(-1, 0)


def mix_views(
    images: Tensor, ids: Ints, augmentation: Mixup | Cutmix, *, seed: int, epoch: int
) -> MixedViews:
    """Mix the views (B, C, H, W) uint8 of the sample ``ids`` (B,) with their partners."""
    key = derive_key(seed, _STREAM, epoch)
    levels = sample_levels(uniform(random_bits(key, ids, 0)), augmentation.alpha)
    chosen = uniform(random_bits(key, ids, 1)) < augmentation.probability
    levels = np.where(chosen, levels, _LEVELS)
    if isinstance(augmentation, Mixup):
        return _blend(images, levels)
    height, width = images.shape[2:]
    rows, columns = (
        bounded_integers(random_bits(key, ids, 2), height),
        bounded_integers(random_bits(key, ids, 3), width),
    )
    return _paste(images, levels, rows, columns)


def sample_levels(draws: NDArray[np.float64], alpha: float) -> Ints:
    """Turn uniform draws (B,) into shares in 256ths, distributed as Beta(alpha, alpha)."""
    return np.searchsorted(_cumulative(alpha), draws, side="right").astype(np.int64)


@lru_cache
def _cumulative(alpha: float) -> NDArray[np.float64]:
    # Only mixing needs scipy, which is slow to import.
    from scipy.special import betainc

    borders = (np.arange(_LEVELS) + 0.5) / _LEVELS
    return np.asarray(betainc(alpha, alpha, borders))


def _blend(images: Tensor, levels: Ints) -> MixedViews:
    device_levels = array_to_device(levels.astype(np.int32), images.device)
    weights = device_levels[:, None, None, None]
    both = images * weights + partners(images) * (_LEVELS - weights)
    return MixedViews(((both + _LEVELS // 2) >> 8).to(torch.uint8), device_levels.float() / _LEVELS)


def _paste(images: Tensor, levels: Ints, rows: Ints, columns: Ints) -> MixedViews:
    height, width = images.shape[2:]
    side = np.sqrt(1 - levels / _LEVELS)
    tall, wide = (height * side).astype(np.int64), (width * side).astype(np.int64)
    # The box is clipped at the border, and the share follows the remaining area.
    top, bottom = _clip_box(rows, tall, height)
    left, right = _clip_box(columns, wide, width)
    area = (bottom - top) * (right - left)
    share = (1 - area / (height * width)).astype(np.float32)
    mask = box_mask(images, (top, left, bottom - top, right - left))
    pasted = torch.where(mask, partners(images), images)
    return MixedViews(pasted, array_to_device(share, images.device))


def _clip_box(center: Ints, length: Ints, size: int) -> tuple[Ints, Ints]:
    start = center - length // 2
    return np.clip(start, 0, size), np.clip(start + length, 0, size)
