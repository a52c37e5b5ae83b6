"""Class folders with unlabeled images, and with images of mixed sizes."""

import numpy as np
import pytest
from PIL import Image

from kdcore.data import dataset, decode
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.data.ingest.helpers import ingest_upload
from tests.kdcore.uploads import Workdir, encode_image, image_tree, png, write_archive


@pytest.mark.parametrize("folder", ["Unlabeled", old_spelling("unlabeled")])
@pytest.mark.parametrize("prefix", ["", "train/", "set/", "set/train/"])
def test_unlabeled_folder_may_stand_beside_the_others(workdir, prefix, folder):
    root = "set/" if prefix.startswith("set") else ""
    extra = {f"{root}{folder}/deep/{i}.png": png(500 + i) for i in range(7)}
    members = image_tree(10, prefix=prefix)
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members | extra))
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["unlabeled"].count == 7
    expected = [decode.decode(d, gray=False, size=10, max_pixels=999) for d in extra.values()]
    assert np.array_equal(data.images("unlabeled").numpy(), np.stack(expected))
    assert sum(data.info.splits[split].count for split in dataset.SPLITS) == 20


def test_unlabeled_images_change_the_digest_and_no_statistics(tmp_path):
    plain = ingest_upload(
        Workdir(tmp_path / "a"), write_archive(tmp_path / "a.zip", image_tree(10))
    )
    extra = {"unlabeled/1.png": png(7)}
    more = ingest_upload(
        Workdir(tmp_path / "b"), write_archive(tmp_path / "b.zip", image_tree(10) | extra)
    )
    other = ingest_upload(
        Workdir(tmp_path / "c"),
        write_archive(tmp_path / "c.zip", image_tree(10) | {"unlabeled/1.png": png(8)}),
    )
    assert len({data.info.digest for data in (plain, more, other)}) == 3
    assert plain.info.normalization == more.info.normalization
    assert "unlabeled" not in plain.info.splits
    assert len(plain.images("unlabeled")) == 0


def test_images_of_mixed_sizes_get_the_requested_size(workdir):
    members = {}
    for number, name in enumerate(image_tree(6)):
        file_format = ("PNG", "JPEG", "WEBP", "BMP")[number % 4]
        size = [(300, 200), (64, 64), (500, 900)][number % 3]
        mode = "L" if number % 5 == 0 else "RGB"
        image = Image.new(mode, size, 90 if mode == "L" else (90, 90, 90))
        members[name.replace(".png", f".{file_format.lower()}")] = encode_image(image, file_format)
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members), image_size=96)
    assert data.images("train").shape[1:] == (3, 96, 96)
    assert (data.images("train").int() - 90).abs().max() <= 3


def test_large_jpeg_decoded_at_reduced_size_matches_the_exact_resize():
    chance = np.random.default_rng(1)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    large = coarse.resize((1200, 900), Image.Resampling.BICUBIC)
    data = encode_image(large, "JPEG", quality=95)
    small = decode.decode(data, gray=False, size=48, max_pixels=2_000_000)
    exact = np.asarray(large.crop((150, 0, 1050, 900)).resize((48, 48), Image.Resampling.BOX))
    assert np.abs(small.transpose(1, 2, 0).astype(int) - exact).mean() < 6
