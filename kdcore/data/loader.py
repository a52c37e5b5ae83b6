"""Load batches of the training split: a pure function of (seed, epoch, batch index)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.augment.mixup import find_mixing, mix_views, partners
from kdcore.data.augment.views import augment, epoch_order
from kdcore.data.transfer import array_to_device, to_device, to_device_if_fits
from kdcore.methods.base import UNLABELED, MixedLabels
from kdcore.schema.augmentation import AnyAugmentation, as_augmentations


@dataclass(frozen=True)
class ViewBatch:
    """One batch of views on the device."""

    images: Tensor  # (B, C, H, W) uint8, augmented
    target: Tensor  # (B,) int64 class indices, UNLABELED without a label
    index: Tensor  # (B,) int64 sample ids
    view: int
    """Number of the images' view, from 1."""
    mix: MixedLabels | None = None
    """Labels and shares of the partners, after mixup or cutmix."""


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Return the number of batches of an epoch. The last batch may be smaller.

    A last batch of one sample is left out, because batch normalization needs two; the order
    changes in every epoch, so another sample is left out each time. One sample is one batch.
    """
    full_batches, rest = divmod(num_samples, batch_size)
    return max(1, full_batches + (rest > 1))


class Loader:
    """The training split in shuffled, augmented batches on a device.

    ``images`` (N, C, H, W) uint8 and ``targets`` (N,) int64 have the sample ids 0..N-1,
    ``unlabeled`` (U, C, H, W) uint8 the ids N..N+U-1. ``num_views`` views of each image alternate
    from epoch to epoch; with None every epoch has a new view. ``view_seed`` (default: ``seed``)
    draws the views, ``seed`` everything else. Batches can be loaded in any order, so a resumed
    training continues at any batch.
    """

    def __init__(  # noqa: PLR0913 - all are keywords, and each is a choice of its own
        self,
        images: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        augmentation: AnyAugmentation | tuple[AnyAugmentation, ...],
        seed: int,
        device: torch.device,
        unlabeled: Tensor | None = None,
        num_views: int | None = None,
        view_seed: int | None = None,
    ) -> None:
        parts = [images] if unlabeled is None else [images, unlabeled]
        self._parts = [to_device_if_fits(part, device) for part in parts]
        self.num_samples = sum(len(part) for part in parts)
        missing = torch.full((self.num_samples - len(images),), UNLABELED, dtype=targets.dtype)
        self.targets = torch.cat([targets, missing])
        """(N + U,) int64 on the CPU, by sample id."""
        self._targets = self.targets.to(device)
        self._batch_size = batch_size
        self._augmentation = as_augmentations(augmentation)
        self._seed = seed
        self.view_seed = seed if view_seed is None else view_seed
        self._num_views = num_views
        self.device = device
        self._order: tuple[int, NDArray[np.int64]] = (0, np.empty(0, np.int64))
        self.steps_per_epoch = steps_per_epoch(self.num_samples, batch_size)

    def batch(self, epoch: int, batch_index: int) -> ViewBatch:
        """Return the batch ``batch_index`` (from 0) of ``epoch`` (from 1)."""
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(self._seed, epoch, self.num_samples))
        start = batch_index * self._batch_size
        ids = self._order[1][start : start + self._batch_size]
        view_index = self.view_of_epoch(epoch)
        images = self.views(ids, view_index)
        index = array_to_device(ids, self.device)
        target = self._targets[index]
        mixing = find_mixing(self._augmentation)
        if mixing is None:
            return ViewBatch(images, target, index, view_index)
        images, share = mix_views(images, ids, mixing, seed=self._seed, epoch=epoch)
        return ViewBatch(images, target, index, view_index, MixedLabels(partners(target), share))

    def view_of_epoch(self, epoch: int) -> int:
        """Return the number (from 1) of the view that ``epoch`` (from 1) shows."""
        return epoch if self._num_views is None else (epoch - 1) % self._num_views + 1

    def views(self, ids: NDArray[np.int64], view_index: int) -> Tensor:
        """Return view ``view_index`` of the samples ``ids`` (B,): (B, C, H, W) uint8, not mixed."""
        return augment(
            self._gather(ids), ids, self._augmentation, seed=self.view_seed, epoch=view_index
        )

    def _gather(self, ids: NDArray[np.int64]) -> Tensor:
        if len(self._parts) == 1:
            return self._rows(0, ids)
        is_labeled, num_labeled = ids < len(self._parts[0]), len(self._parts[0])
        labeled_rows, unlabeled_rows = np.flatnonzero(is_labeled), np.flatnonzero(~is_labeled)
        rows = torch.cat(
            [self._rows(0, ids[labeled_rows]), self._rows(1, ids[unlabeled_rows] - num_labeled)]
        )
        # Labeled rows come first now: restore the order of the batch.
        batch_order = np.argsort(np.concatenate([labeled_rows, unlabeled_rows]))
        return rows[array_to_device(batch_order, self.device)]

    def _rows(self, part: int, ids: NDArray[np.int64]) -> Tensor:
        images = self._parts[part]
        return to_device(images[array_to_device(ids, images.device)], self.device)
