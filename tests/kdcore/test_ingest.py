"""Ingestion: layouts, splits, pixels, and every broken image by its name."""

import hashlib
import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from kdcore.data import dataset, decode
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.asset_info import DatasetInfo
from tests.kdcore.uploads import Room, archive, encoded, png, tree


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path / "work")


def taken(room, members, **options):
    path = archive(room.path / "in.zip", members)
    request = IngestRequest(source="archive", path=str(path), **options)
    info = DatasetInfo.model_validate(room.call(ingest, request))
    return info, dataset.load_dataset(room.path / "artifacts" / "dataset.safetensors")


def refused(room, members, **options):
    with pytest.raises(UserError) as fault:
        taken(room, members, **options)
    assert fault.value.code == "dataset_invalid"
    assert not (room.path / "artifacts" / "dataset.safetensors").exists()
    return fault.value


def test_digits(room):
    report = room.call(ingest, IngestRequest(source="builtin:digits"))
    info = DatasetInfo.model_validate(report)
    counts = {split: info.splits[split].count for split in dataset.SPLITS}
    assert sum(counts.values()) == 1797
    assert counts == {"train": 1259, "val": 179, "test": 359}
    assert (info.in_channels, info.image_size, len(info.classes)) == (1, 8, 10)
    data = dataset.load_dataset(room.path / "artifacts" / "dataset.safetensors")
    assert data.info == info
    images, targets = data.images("train"), data.targets("train")
    assert images.dtype == torch.uint8
    assert images.shape == (1259, 1, 8, 8)
    assert images.max() == 255
    assert Counter(targets.tolist())[3] == info.splits["train"].per_class["3"]
    # The statistics are those of the training split, on the scale 0..1.
    scaled = images.double() / 255
    assert info.normalization.mean[0] == pytest.approx(scaled.mean().item(), abs=1e-6)
    assert info.normalization.std[0] == pytest.approx(scaled.std(correction=0).item(), abs=1e-6)
    assert not (room.path / "digits.zip").exists()


def test_the_bytes_are_a_function_of_the_content(tmp_path):
    members = tree(6)
    orders = [members, dict(reversed(members.items())), {f"set/{k}": v for k, v in members.items()}]
    digests = set()
    for number, order in enumerate(orders):
        room = Room(tmp_path / str(number))
        taken(room, order)
        file = (room.path / "artifacts" / "dataset.safetensors").read_bytes()
        digests.add(hashlib.sha256(file).hexdigest())
        artifact = next(e for e in room.lines() if e["type"] == "artifact")
        assert artifact["sha256"] in digests
        assert artifact["path"] == "artifacts/dataset.safetensors"
    assert len(digests) == 1


def test_the_digest_follows_content_and_seed(tmp_path):
    def digest(name, members, seed=0):
        return taken(Room(tmp_path / name), members, split_seed=seed)[0].digest

    members = tree(10)
    other = {**members, "ant/0.png": png(77)}
    found = [digest("a", members), digest("b", members, 1), digest("c", other)]
    assert len(set(found)) == 3


def test_drawn_splits_are_stratified_and_apart(room):
    members = tree(20, ("ant", "bee", "cat"))
    info, data = taken(room, members)
    assert info.splits["test"].per_class == {"ant": 4, "bee": 4, "cat": 4}
    assert info.splits["val"].per_class == {"ant": 2, "bee": 2, "cat": 2}
    rows = [image.numpy().tobytes() for split in dataset.SPLITS for image in data.images(split)]
    assert len(set(rows)) == len(rows) == 60


def test_two_images_of_a_class_give_one_to_validation(room):
    info, _ = taken(room, {**tree(10), "rare/1.png": png(90), "rare/2.png": png(91)})
    per_class = {split: info.splits[split].per_class["rare"] for split in dataset.SPLITS}
    assert per_class == {"train": 1, "val": 1, "test": 0}


def test_given_splits_are_kept(room):
    members = tree(4, prefix="train/") | tree(2, prefix="valid/") | tree(3, prefix="test/")
    info, data = taken(room, members)
    counts = {split: info.splits[split].count for split in dataset.SPLITS}
    assert counts == {"train": 8, "val": 4, "test": 6}
    expected = decode.decode(members["train/bee/0.png"], gray=False, size=10, max_pixels=1000)
    assert (data.images("train")[4].numpy() == expected).all()
    assert data.targets("train").tolist() == [0] * 4 + [1] * 4


def test_a_missing_split_is_drawn_from_training_alone(room):
    info, _ = taken(room, tree(10, prefix="train/") | tree(3, prefix="test/"))
    assert {split: info.splits[split].count for split in dataset.SPLITS} == {
        "train": 18,
        "val": 2,
        "test": 6,
    }


def test_every_bad_file_is_named_at_once(room):
    good = png(1)
    fault = refused(
        room,
        {
            **tree(5),
            "../evil.png": good,
            "ant/cut.png": good[: len(good) // 2],
            "ant/text.png": b"hello",
            "bee/empty.jpg": b"",
            "bee/moving.gif": b"GIF89a",
            "loose.png": good,
        },
    )
    names = {item.name for item in fault.items}
    loose = {"../evil.png", "bee/moving.gif", "loose.png"}
    assert names == loose | {"ant/cut.png", "ant/text.png", "bee/empty.jpg"}
    assert "6 things" in fault.message


def test_a_thousand_items_and_how_many_more(room):
    broken = {f"ant/{i}.png": b"x" for i in range(1005)}
    fault = refused(room, tree(2) | broken)
    assert len(fault.items) == 1001
    assert fault.items[-1].detail == "and 5 more"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "no images"),
        ({"readme.txt": b"hello"}, "no images"),
        (tree(5, ("ant",)), "one class"),
        (tree(5, prefix="val/"), "no images in train/"),
        (tree(1), "too few images to draw"),
    ],
)
def test_archives_that_are_no_data_set(room, members, words):
    assert words in refused(room, members).message


def test_a_class_without_training_images(room):
    fault = refused(room, tree(5, prefix="train/") | tree(2, ("cow",), prefix="test/"))
    assert [(i.name, i.detail) for i in fault.items] == [
        ("test/cow", "is a class without training images")
    ]


def test_too_many_pixels_are_refused_before_decoding(room):
    fault = refused(room, tree(3) | {"ant/big.png": png(1, (50, 50))}, max_pixels=2000)
    assert "50 x 50 pixels" in fault.items[0].detail


def test_decoded_size_and_number_are_capped(room):
    flat = {name: encoded(Image.new("RGB", (10, 10), (i, 0, 0))) for i, name in enumerate(tree(9))}
    assert "decoded" in refused(room, flat, max_decoded_bytes=5000).message
    assert "18 images" in refused(room, tree(9), max_images=17).message


def test_one_square_size_is_kept_and_others_are_brought_to_the_median(tmp_path):
    for side, kept in ((230, 230), (300, 256)):
        members = {k: png(i, (side, side)) for i, k in enumerate(tree(4))}
        info, _ = taken(Room(tmp_path / str(side)), members)
        assert info.image_size == kept
    sizes = [(20, 30), (40, 21), (25, 25), (22, 50), (23, 23), (24, 99), (20, 26), (30, 30)]
    members = {k: png(i, size) for (i, k), size in zip(enumerate(tree(4)), sizes, strict=True)}
    info, _ = taken(Room(tmp_path / "b"), members)
    assert info.image_size == 22
    info, _ = taken(Room(tmp_path / "c"), {k: png(i, (4, 5)) for i, k in enumerate(tree(4))})
    assert info.image_size == 8
    info, _ = taken(Room(tmp_path / "d"), {k: png(i, (300, 290)) for i, k in enumerate(tree(4))})
    assert info.image_size == 224


def test_all_gray_makes_one_channel_and_one_color_makes_three(tmp_path):
    members = {name: png(i, mode="L") for i, name in enumerate(tree(4))}
    info, _ = taken(Room(tmp_path / "a"), members)
    assert info.in_channels == 1
    info, _ = taken(Room(tmp_path / "b"), {**members, "ant/9.png": png(9)})
    assert info.in_channels == 3


def pixels(image, kind="PNG", *, gray=False, size=4, **options):
    data = encoded(image, kind, **options)
    return decode.decode(data, gray=gray, size=size, max_pixels=10_000)


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 257, 65_535, 32_768]] * 4, np.uint16)
    assert pixels(Image.fromarray(deep), gray=True)[0, 0].tolist() == [0, 1, 255, 128]


def test_transparency_becomes_white():
    assert (pixels(Image.new("RGBA", (4, 4), (9, 9, 9, 0))) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    assert (pixels(palette, transparency=0) == 255).all()


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = pixels(image, "JPEG", size=16, exif=exif, quality=100)
    # Turned by a quarter: the white half was above and is now on the right.
    assert upright[0, 8, 14] > 200
    assert upright[0, 8, 1] < 50


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_kinds_that_are_read(kind):
    assert pixels(Image.new("RGB", (4, 4), (200, 10, 10)), kind)[0].mean() > 180


def test_the_crop_is_central():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255
    assert (pixels(Image.fromarray(wide)) == 255).all()


def test_other_formats_behind_a_right_name_are_refused():
    for kind in ("GIF", "TIFF", "PPM"):
        with pytest.raises(decode.InvalidImageError, match="is no PNG"):
            pixels(Image.new("L", (4, 4)), kind)


def test_a_stop_ends_between_two_images(room):
    room.stop.request()
    with pytest.raises(RunCancelledError):
        taken(room, tree(5))
    assert not (room.path / "artifacts").exists()


def test_a_store_that_ingestion_did_not_write_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(io.BytesIO(b"12345678").getvalue())
    with pytest.raises(UserError, match="not a store"):
        dataset.load_dataset(tmp_path / "x.safetensors")
