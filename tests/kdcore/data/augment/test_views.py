"""Views and orders are pure functions of their keys."""

import numpy as np
import torch

from kdcore.data.augment.views import augment, crop_flip_params, epoch_order
from kdcore.schema.augmentation import CropFlip, NoAugmentation

CROP = CropFlip(type="crop_flip", padding=2, flip=True)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (50, 3, 8, 9), dtype=np.uint8))
IDS = np.arange(50)


def test_view_does_not_depend_on_its_batch() -> None:
    together = augment(IMAGES, IDS, CROP, seed=1, epoch=2)
    ids = np.array([31, 4])
    alone = augment(IMAGES[torch.from_numpy(ids)], ids, CROP, seed=1, epoch=2)
    assert torch.equal(alone, together[torch.from_numpy(ids)])
    assert not torch.equal(together, augment(IMAGES, IDS, CROP, seed=1, epoch=3))
    assert not torch.equal(together, augment(IMAGES, IDS, CROP, seed=2, epoch=2))
    assert torch.equal(IMAGES, augment(IMAGES, IDS, NoAugmentation(type="none"), seed=1, epoch=2))


def test_view_is_the_padded_crop_mirrored() -> None:
    params = crop_flip_params(1, 2, IDS, CROP)
    views = augment(IMAGES, IDS, CROP, seed=1, epoch=2)
    for i in range(len(IMAGES)):
        padded = np.zeros((3, 12, 13), np.uint8)
        padded[:, 2:10, 2:11] = IMAGES[i].numpy()
        top, left = params.top[i], params.left[i]
        crop = padded[:, top : top + 8, left : left + 9]
        expected = crop[:, :, ::-1] if params.mirrored[i] else crop
        assert np.array_equal(views[i].numpy(), expected)


def test_orders_are_different_permutations() -> None:
    first, second = epoch_order(1, 1, 100), epoch_order(1, 2, 100)
    assert sorted(first) == list(range(100))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(1, 1, 100))
