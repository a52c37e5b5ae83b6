"""Unlabeled folders, and images of mixed sizes."""

import numpy as np
import pytest
from PIL import Image

from kdcore.data import dataset, decode
from tests.kdcore.data.helpers import taken
from tests.kdcore.uploads import Room, archive, encoded, png, tree


@pytest.mark.parametrize("prefix", ["", "train/", "set/", "set/train/"])
def test_an_unlabeled_folder_stands_beside_the_others(room, prefix):
    around = "set/" if prefix.startswith("set") else ""
    extra = {f"{around}Unlabeled/deep/{i}.png": png(500 + i) for i in range(7)}
    members = tree(10, prefix=prefix)
    data = taken(room, archive(room.path / "in.zip", members | extra))
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["unlabeled"].count == 7
    expected = [decode.decode(d, gray=False, size=10, max_pixels=999) for d in extra.values()]
    assert np.array_equal(data.images("unlabeled").numpy(), np.stack(expected))
    assert sum(data.info.splits[split].count for split in dataset.SPLITS) == 20


def test_unlabeled_images_are_part_of_the_digest_and_of_nothing_else(tmp_path):
    plain = taken(Room(tmp_path / "a"), archive(tmp_path / "a.zip", tree(10)))
    extra = {"unlabeled/1.png": png(7)}
    more = taken(Room(tmp_path / "b"), archive(tmp_path / "b.zip", tree(10) | extra))
    other = taken(
        Room(tmp_path / "c"), archive(tmp_path / "c.zip", tree(10) | {"unlabeled/1.png": png(8)})
    )
    assert len({data.info.digest for data in (plain, more, other)}) == 3
    assert plain.info.normalization == more.info.normalization
    assert "unlabeled" not in plain.info.splits
    assert len(plain.images("unlabeled")) == 0


def test_the_asked_size_of_mixed_images(room):
    members = {}
    for number, name in enumerate(tree(6)):
        kind = ("PNG", "JPEG", "WEBP", "BMP")[number % 4]
        size = [(300, 200), (64, 64), (500, 900)][number % 3]
        mode = "L" if number % 5 == 0 else "RGB"
        image = Image.new(mode, size, 90 if mode == "L" else (90, 90, 90))
        members[name.replace(".png", f".{kind.lower()}")] = encoded(image, kind)
    data = taken(room, archive(room.path / "in.zip", members), image_size=96)
    assert data.images("train").shape[1:] == (3, 96, 96)
    assert (data.images("train").int() - 90).abs().max() <= 3


def test_a_large_jpeg_is_decoded_small_and_right():
    chance = np.random.default_rng(1)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    large = coarse.resize((1200, 900), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    small = decode.decode(data, gray=False, size=48, max_pixels=2_000_000)
    exact = np.asarray(large.crop((150, 0, 1050, 900)).resize((48, 48), Image.Resampling.BOX))
    assert np.abs(small.transpose(1, 2, 0).astype(int) - exact).mean() < 6
