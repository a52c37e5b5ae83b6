"""Views: one augmented version of one image, the same for every process that asks for it.

The parameters of image i in epoch e are a pure function of (seed, e, i): they depend neither on
the batch that the image stands in nor on how many views were drawn before.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdcore.data.counter import below, fold, stream
from kdcore.spec.training import Augmentation, CropFlip

_VIEW, _ORDER = 1, 2
"""Streams of one seed: its views and its orders never share a random number."""


class CropFlips(NamedTuple):
    """Parameters of the views of B images."""

    top: NDArray[np.int64]  # (B,) row of the padded image where the crop starts
    left: NDArray[np.int64]  # (B,)
    mirrored: NDArray[np.bool_]  # (B,)


def order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """The sample ids 0..num_samples-1 in the order of this epoch: sorted by random keys."""
    ids = np.arange(num_samples)
    return np.argsort(stream(fold(seed, _ORDER, epoch), ids, 0), kind="stable")


def crop_flips(seed: int, epoch: int, ids: NDArray[np.int64], augmentation: CropFlip) -> CropFlips:
    """Where to crop and whether to mirror each of the sample ``ids`` (B,) in this epoch."""
    key = fold(seed, _VIEW, epoch)
    places = 2 * (augmentation.padding or 0) + 1
    mirrored = below(stream(key, ids, 2), 2) == 1
    return CropFlips(
        top=below(stream(key, ids, 0), places),
        left=below(stream(key, ids, 1), places),
        mirrored=mirrored & bool(augmentation.flip),
    )


def view(
    images: Tensor, ids: NDArray[np.int64], augmentation: Augmentation, *, seed: int, epoch: int
) -> Tensor:
    """The views (B, C, H, W) of ``images`` (B, C, H, W), uint8, in ``epoch`` (from 1).

    ``ids`` (B,) are the images' places in their split. Without augmentation these are the images
    themselves.
    """
    if not isinstance(augmentation, CropFlip):
        return images
    drawn = crop_flips(seed, epoch, ids, augmentation)
    return _crop(images, drawn, augmentation.padding or 0)


def _crop(images: Tensor, drawn: CropFlips, padding: int) -> Tensor:
    batch, channels, height, width = images.shape
    device = images.device
    columns = np.arange(width)
    columns = np.where(drawn.mirrored[:, None], width - 1 - columns, columns) + drawn.left[:, None]
    rows = drawn.top[:, None] + np.arange(height)
    padded = functional.pad(images, (padding, padding, padding, padding))
    stride = width + 2 * padding
    # One flat gather per image, the same for all of its channels.
    places = torch.from_numpy(rows[:, :, None] * stride + columns[:, None, :])
    places = places.view(batch, 1, -1).to(device, non_blocking=True)
    flat = padded.flatten(2).gather(2, places.expand(-1, channels, -1))
    return flat.view(batch, channels, height, width)
