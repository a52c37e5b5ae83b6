"""Batches are pure functions of epoch and index; mixed and unlabeled images join them."""

import numpy as np
import pytest
import torch

from kdcore.data.loader import Loader, steps_per_epoch
from kdcore.methods.base import UNLABELED
from kdcore.schema.augmentation import CropFlip, Mixup

CROP = CropFlip(type="crop_flip", padding=2, flip=True)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (50, 3, 8, 9), dtype=np.uint8))
NOISE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, 24, 24), dtype=np.uint8))
CPU = torch.device("cpu")


@pytest.mark.parametrize(("num", "size", "steps"), [(10, 5, 2), (11, 5, 2), (12, 5, 3), (1, 5, 1)])
def test_single_last_sample_is_left_out(num: int, size: int, steps: int) -> None:
    assert steps_per_epoch(num, size) == steps


def test_batches_cover_the_epoch_in_any_order() -> None:
    def loader() -> Loader:
        return Loader(
            IMAGES,
            torch.arange(50),
            batch_size=16,
            augmentation=CROP,
            seed=5,
            device=torch.device("cpu"),
        )

    first, second = loader(), loader()
    batches = [first.batch(1, k) for k in range(4)]
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(50))
    second.batch(2, 1)
    late = second.batch(1, 3)
    assert torch.equal(late.images, batches[3].images)
    assert torch.equal(late.target, late.index)


def test_loader_mixes_views_and_returns_the_partners_labels():
    def loader(augmentation):
        targets = torch.arange(60)
        return Loader(
            NOISE, targets, batch_size=16, augmentation=augmentation, seed=5, device=CPU
        ).batch(2, 1)

    plain, mixed = loader(CROP), loader((CROP, Mixup(type="mixup", alpha=1.0)))
    assert plain.mix is None
    assert torch.equal(plain.index, mixed.index)
    assert torch.equal(mixed.mix.target, mixed.target.roll(-1))
    share = mixed.mix.share[:, None, None, None]
    expected = share * plain.images + (1 - share) * plain.images.roll(-1, 0)
    assert (mixed.images - expected).abs().max() <= 0.5


def test_unlabeled_images_follow_the_labeled_ones():
    loader = Loader(
        NOISE[:20],
        torch.arange(20),
        batch_size=8,
        augmentation=CropFlip(type="crop_flip", padding=0, flip=False),
        seed=5,
        device=CPU,
        unlabeled=NOISE[20:43],
    )
    assert loader.num_samples == 43
    batches = [loader.batch(1, index) for index in range(loader.steps_per_epoch)]
    ids = torch.cat([batch.index for batch in batches])
    assert sorted(ids.tolist()) == list(range(43))
    for batch in batches:
        assert torch.equal(batch.images, NOISE[batch.index])
        expected = torch.where(batch.index < 20, batch.index, UNLABELED)
        assert torch.equal(batch.target, expected)
