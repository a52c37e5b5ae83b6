"""Batches of one split: a pure function of (seed, epoch, number of the batch)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment.mixup import mixed, mixing_of, partners
from kdcore.data.augment.views import order, view
from kdcore.data.transfer import moved, placed, resident
from kdcore.methods.base import UNLABELLED, Mix
from kdcore.schema.augmentation import AnyAugmentation, as_augmentations


@dataclass(frozen=True)
class Views:
    """One batch on the device."""

    images: Tensor  # (B, C, H, W) uint8, augmented
    target: Tensor  # (B,) int64, UNLABELLED for some
    index: Tensor  # (B,) int64 sample ids
    view: int
    """Which view of its images this is, from 1."""
    mix: Mix | None = None
    """The partners' labels, where mixup or cutmix made each view of two."""


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Batches of one epoch: the last one is kept however small, unless it has a single sample.

    Batch normalisation has no deviation of one sample, so a lone last sample sits out; each epoch
    has another order, so it is never the same one for long. A split of one sample is one batch.
    """
    whole, rest = divmod(num_samples, batch_size)
    return max(1, whole + (rest > 1))


class Loader:
    """The training split in shuffled, augmented batches on a device.

    ``images`` (N, C, H, W) uint8 and ``targets`` (N,) int64; ``unlabelled`` (U, C, H, W) uint8
    joins them with the sample ids N..N+U-1. Of each image there are ``views`` views that come again
    in turn, or a fresh one in every epoch where it is None; ``view_seed`` draws them, ``seed`` all
    else, and them too where it is None. Every batch can be asked for at any
    time and in any order, so that a resumed training needs no memory of the ones before.
    """

    def __init__(  # noqa: PLR0913 - three are the data and three the recipe
        self,
        images: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        augmentation: AnyAugmentation | tuple[AnyAugmentation, ...],
        seed: int,
        device: torch.device,
        unlabelled: Tensor | None = None,
        views: int | None = None,
        view_seed: int | None = None,
    ) -> None:
        parts = [images] if unlabelled is None else [images, unlabelled]
        self._parts = [resident(part, device) for part in parts]
        self.num_samples = sum(len(part) for part in parts)
        missing = torch.full((self.num_samples - len(images),), UNLABELLED, dtype=targets.dtype)
        self.targets = torch.cat([targets, missing])
        """(N + U,) of every sample id, on the CPU."""
        self._targets = self.targets.to(device)
        self._batch_size = batch_size
        self._augmentation = as_augmentations(augmentation)
        self._seed = seed
        self.view_seed = seed if view_seed is None else view_seed
        self._views = views
        self.device = device
        self._order: tuple[int, NDArray[np.int64]] = (0, np.empty(0, np.int64))
        self.steps_per_epoch = steps_per_epoch(self.num_samples, batch_size)

    def batch(self, epoch: int, number: int) -> Views:
        """The ``number``-th batch (from 0) of ``epoch`` (from 1)."""
        if self._order[0] != epoch:
            self._order = (epoch, order(self._seed, epoch, self.num_samples))
        start = number * self._batch_size
        ids = self._order[1][start : start + self._batch_size]
        turn = self.turn(epoch)
        images = self.pictures(ids, turn)
        index = placed(ids, self.device)
        target = self._targets[index]
        mixing = mixing_of(self._augmentation)
        if mixing is None:
            return Views(images, target, index, turn)
        images, share = mixed(images, ids, mixing, seed=self._seed, epoch=epoch)
        return Views(images, target, index, turn, Mix(partners(target), share))

    def turn(self, epoch: int) -> int:
        """Which view (from 1) of its images an epoch (from 1) shows."""
        return epoch if self._views is None else (epoch - 1) % self._views + 1

    def pictures(self, ids: NDArray[np.int64], turn: int) -> Tensor:
        """The ``turn``-th view of the samples ``ids`` (B,), (B, C, H, W) uint8, not mixed."""
        return view(self._take(ids), ids, self._augmentation, seed=self.view_seed, epoch=turn)

    def _take(self, ids: NDArray[np.int64]) -> Tensor:
        if len(self._parts) == 1:
            return self._rows(0, ids)
        labelled, num_labelled = ids < len(self._parts[0]), len(self._parts[0])
        own, others = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        rows = torch.cat([self._rows(0, ids[own]), self._rows(1, ids[others] - num_labelled)])
        # They stand apart now: put each back into its place of the batch.
        places = np.argsort(np.concatenate([own, others]))
        return rows[placed(places, self.device)]

    def _rows(self, part: int, ids: NDArray[np.int64]) -> Tensor:
        images = self._parts[part]
        return moved(images[placed(ids, images.device)], self.device)
