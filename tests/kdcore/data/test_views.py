"""Views, orders and batches are pure functions of their keys."""

import numpy as np
import pytest
import torch

from kdcore.data.augment.views import augment, crop_flip_params, epoch_order
from kdcore.data.loader import Loader, steps_per_epoch
from kdcore.data.rng import bounded_integers, derive_key, random_bits, splitmix64
from kdcore.schema.augmentation import CropFlip, NoAugmentation

CROP = CropFlip(type="crop_flip", padding=2, flip=True)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (50, 3, 8, 9), dtype=np.uint8))
IDS = np.arange(50)


def test_mix_is_splitmix64() -> None:
    # The first two outputs of the published generator for seed 0.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([gamma, 2 * gamma % 2**64], np.uint64)
    assert [hex(x) for x in splitmix64(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_a_view_does_not_depend_on_its_batch() -> None:
    together = augment(IMAGES, IDS, CROP, seed=1, epoch=2)
    ids = np.array([31, 4])
    alone = augment(IMAGES[torch.from_numpy(ids)], ids, CROP, seed=1, epoch=2)
    assert torch.equal(alone, together[torch.from_numpy(ids)])
    assert not torch.equal(together, augment(IMAGES, IDS, CROP, seed=1, epoch=3))
    assert not torch.equal(together, augment(IMAGES, IDS, CROP, seed=2, epoch=2))
    assert torch.equal(IMAGES, augment(IMAGES, IDS, NoAugmentation(type="none"), seed=1, epoch=2))


def test_a_view_is_the_padded_crop_mirrored() -> None:
    drawn = crop_flip_params(1, 2, IDS, CROP)
    views = augment(IMAGES, IDS, CROP, seed=1, epoch=2)
    for i in range(len(IMAGES)):
        padded = np.zeros((3, 12, 13), np.uint8)
        padded[:, 2:10, 2:11] = IMAGES[i].numpy()
        top, left = drawn.top[i], drawn.left[i]
        crop = padded[:, top : top + 8, left : left + 9]
        expected = crop[:, :, ::-1] if drawn.mirrored[i] else crop
        assert np.array_equal(views[i].numpy(), expected)


def test_draws_are_uniform_and_unrelated() -> None:
    ids = np.arange(40_000)
    draws = [bounded_integers(random_bits(derive_key(9, 1, 1), ids, draw), 5) for draw in range(3)]
    for drawn in draws:
        assert np.abs(np.bincount(drawn, minlength=5) / 8000 - 1).max() < 0.05
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.02
    assert abs(np.corrcoef(draws[0][1:], draws[0][:-1])[0, 1]) < 0.02
    assert len({derive_key(1, 2), derive_key(2, 1), derive_key(1), derive_key(1, 2, 0)}) == 4


def test_orders_are_permutations_that_differ() -> None:
    first, second = epoch_order(1, 1, 100), epoch_order(1, 2, 100)
    assert sorted(first) == list(range(100))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(1, 1, 100))


@pytest.mark.parametrize(("num", "size", "steps"), [(10, 5, 2), (11, 5, 2), (12, 5, 3), (1, 5, 1)])
def test_a_lone_last_sample_sits_out(num: int, size: int, steps: int) -> None:
    assert steps_per_epoch(num, size) == steps


def test_batches_cover_the_epoch_in_any_order_of_asking() -> None:
    def loader() -> Loader:
        return Loader(
            IMAGES,
            torch.arange(50),
            batch_size=16,
            augmentation=CROP,
            seed=5,
            device=torch.device("cpu"),
        )

    one, other = loader(), loader()
    batches = [one.batch(1, k) for k in range(4)]
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(50))
    other.batch(2, 1)
    late = other.batch(1, 3)
    assert torch.equal(late.images, batches[3].images)
    assert torch.equal(late.target, late.index)
