"""The bytes of views: equal in any batch, block and process, and tied to a format number."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from kdcore.data.augment.views import VIEW_FORMAT, augment
from kdcore.schema.augmentation import CropFlip, Cutout, RandAugment, RandomResizedCrop

NOISE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, 24, 24), dtype=np.uint8))
IDS = np.arange(60)
RESIZED = RandomResizedCrop(type="random_resized_crop", flip=True)
RANDOM = RandAugment(type="randaugment", num_ops=3, magnitude=15)
CUTOUT = Cutout(type="cutout", size=7, probability=0.7)
CROP = CropFlip(type="crop_flip", padding=2, flip=True)
LISTS = [(RESIZED,), (RANDOM,), (CUTOUT,), (CROP, RANDOM, CUTOUT)]


@pytest.mark.parametrize("augmentation", LISTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_view_is_a_function_of_seed_epoch_and_id(augmentation, channels):
    images = NOISE[:, :channels]
    together = augment(images, IDS, augmentation, seed=1, epoch=2)
    assert together.shape == images.shape
    assert together.dtype == torch.uint8
    ids = np.array([31, 4, 59])
    alone = augment(images[torch.from_numpy(ids)], ids, augmentation, seed=1, epoch=2)
    assert torch.equal(alone, together[torch.from_numpy(ids)])
    for seed, epoch in ((1, 3), (2, 2)):
        assert not torch.equal(together, augment(images, IDS, augmentation, seed=seed, epoch=epoch))


@pytest.mark.parametrize("augmentation", LISTS)
def test_batch_in_blocks_equals_the_batch_in_one(augmentation):
    together = augment(NOISE, IDS, augmentation, seed=1, epoch=2)
    # Seven images a block: the last block is smaller.
    block_values = 7 * NOISE[0].numel()
    in_blocks = augment(NOISE, IDS, augmentation, seed=1, epoch=2, block_values=block_values)
    assert torch.equal(in_blocks, together)


def digest(views):
    return hashlib.sha256(views.numpy()).hexdigest()[:16]


def test_bytes_of_views_belong_to_their_format():
    """Raise VIEW_FORMAT when bytes change: cached teacher outputs belong to views of one format."""
    digests = {
        name: hashlib.sha256(
            augment(NOISE, IDS, augmentation, seed=1, epoch=2).numpy()
        ).hexdigest()[:16]
        for name, augmentation in {
            "crop_flip": CROP,
            "random_resized_crop": RESIZED,
            "randaugment": RANDOM,
            "cutout": CUTOUT,
        }.items()
    }
    assert VIEW_FORMAT == 2
    assert digests == {
        "crop_flip": "8b157946ce06a42e",
        "random_resized_crop": "f861feaa7aceb0fc",
        "randaugment": "59febfdffcba15a0",
        "cutout": "08688ebe59278e25",
    }


def test_views_are_the_same_in_another_process_with_other_threads():
    source = """
import hashlib, sys, numpy as np, torch
torch.set_num_threads(int(sys.argv[1]))
from kdcore.data.augment.mixup import mix_views
from kdcore.data.augment.views import augment
from kdcore.schema.augmentation import *
images = torch.from_numpy(np.arange(40 * 3 * 32 * 32).reshape(40, 3, 32, 32) ** 2 % 251).byte()
ids = np.arange(40)
augmentations = (RandomResizedCrop(type="random_resized_crop", flip=True),
                 RandAugment(type="randaugment"), Cutout(type="cutout"))
views = augment(images, ids, augmentations, seed=3, epoch=1)
mixed = mix_views(views, ids, Mixup(type="mixup"), seed=3, epoch=1)
print(hashlib.sha256(mixed.images.numpy().tobytes() + mixed.share.numpy().tobytes()).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", source, threads], capture_output=True, text=True, check=True
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1
