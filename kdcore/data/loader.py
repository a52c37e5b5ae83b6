"""Batches of one split: a pure function of (seed, epoch, number of the batch)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.views import order, view
from kdcore.spec.training import Augmentation

_RESIDENT_SHARE = 0.25
"""A split that takes at most this share of the accelerator's free memory is kept there whole."""


@dataclass(frozen=True)
class Views:
    """One batch on the device."""

    images: Tensor  # (B, C, H, W) uint8, augmented
    target: Tensor  # (B,) int64
    index: Tensor  # (B,) int64 sample ids


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Batches of one epoch: the last one is kept however small, unless it has a single sample.

    Batch normalisation has no deviation of one sample, so a lone last sample sits out; each epoch
    has another order, so it is never the same one for long. A split of one sample is one batch.
    """
    whole, rest = divmod(num_samples, batch_size)
    return max(1, whole + (rest > 1))


class Loader:
    """The training split in shuffled, augmented batches on a device.

    ``images`` (N, C, H, W) uint8 and ``targets`` (N,) int64; every batch can be asked for at any
    time and in any order, so that a resumed training needs no memory of the ones before.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        device: torch.device,
    ) -> None:
        self._images = resident(images, device)
        self._targets = targets.to(device)
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._device = device
        self._order: tuple[int, NDArray[np.int64]] = (0, np.empty(0, np.int64))
        self.steps_per_epoch = steps_per_epoch(len(images), batch_size)

    def batch(self, epoch: int, number: int) -> Views:
        """The ``number``-th batch (from 0) of ``epoch`` (from 1)."""
        if self._order[0] != epoch:
            self._order = (epoch, order(self._seed, epoch, len(self._images)))
        start = number * self._batch_size
        ids = self._order[1][start : start + self._batch_size]
        index = torch.from_numpy(ids).to(self._device)
        images = self._images[index.to(self._images.device)]
        images = images.to(self._device, non_blocking=True)
        views = view(images, ids, self._augmentation, seed=self._seed, epoch=epoch)
        return Views(views, self._targets[index], index)


def resident(images: Tensor, device: torch.device) -> Tensor:
    """``images`` moved to an accelerator that has room for them, else where they are."""
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes <= _RESIDENT_SHARE * free else images
