"""Ingestion of image folders: splits, sizes, limits, and every broken image by its name."""

import hashlib
from collections import Counter

import pytest
import torch
from PIL import Image

from kdcore.data import dataset, decode
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.asset_info import DatasetInfo
from tests.kdcore.uploads import Workdir, encode_image, image_tree, png, write_archive


def ingest_members(workdir, members, **options):
    path = write_archive(workdir.path / "in.zip", members)
    request = IngestRequest(source="archive", path=str(path), **options)
    info = DatasetInfo.model_validate(workdir.call(ingest, request))
    return info, dataset.load_dataset(workdir.path / "artifacts" / "dataset.safetensors")


def assert_members_refused(workdir, members, **options):
    with pytest.raises(UserError) as error:
        ingest_members(workdir, members, **options)
    assert error.value.code == "dataset_invalid"
    assert not (workdir.path / "artifacts" / "dataset.safetensors").exists()
    return error.value


def test_digits_are_built_in(workdir):
    report = workdir.call(ingest, IngestRequest(source="builtin:digits"))
    info = DatasetInfo.model_validate(report)
    counts = {split: info.splits[split].count for split in dataset.SPLITS}
    assert sum(counts.values()) == 1797
    assert counts == {"train": 1259, "val": 179, "test": 359}
    assert (info.in_channels, info.image_size, len(info.classes)) == (1, 8, 10)
    data = dataset.load_dataset(workdir.path / "artifacts" / "dataset.safetensors")
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
    assert not (workdir.path / "digits.zip").exists()


def test_equal_content_gives_equal_bytes(tmp_path):
    members = image_tree(6)
    orders = [members, dict(reversed(members.items())), {f"set/{k}": v for k, v in members.items()}]
    digests = set()
    for number, order in enumerate(orders):
        workdir = Workdir(tmp_path / str(number))
        ingest_members(workdir, order)
        file = (workdir.path / "artifacts" / "dataset.safetensors").read_bytes()
        digests.add(hashlib.sha256(file).hexdigest())
        artifact = next(e for e in workdir.events() if e["type"] == "artifact")
        assert artifact["sha256"] in digests
        assert artifact["path"] == "artifacts/dataset.safetensors"
    assert len(digests) == 1


def test_digest_depends_on_content_and_seed(tmp_path):
    def digest(name, members, seed=0):
        return ingest_members(Workdir(tmp_path / name), members, split_seed=seed)[0].digest

    members = image_tree(10)
    other = {**members, "ant/0.png": png(77)}
    digests = [digest("a", members), digest("b", members, 1), digest("c", other)]
    assert len(set(digests)) == 3


def test_drawn_splits_are_stratified_and_disjoint(workdir):
    members = image_tree(20, ("ant", "bee", "cat"))
    info, data = ingest_members(workdir, members)
    assert info.splits["test"].per_class == {"ant": 4, "bee": 4, "cat": 4}
    assert info.splits["val"].per_class == {"ant": 2, "bee": 2, "cat": 2}
    rows = [image.numpy().tobytes() for split in dataset.SPLITS for image in data.images(split)]
    assert len(set(rows)) == len(rows) == 60


def test_two_images_of_a_class_give_one_to_validation(workdir):
    info, _ = ingest_members(
        workdir, {**image_tree(10), "rare/1.png": png(90), "rare/2.png": png(91)}
    )
    per_class = {split: info.splits[split].per_class["rare"] for split in dataset.SPLITS}
    assert per_class == {"train": 1, "val": 1, "test": 0}


def test_existing_splits_stay(workdir):
    members = (
        image_tree(4, prefix="train/")
        | image_tree(2, prefix="valid/")
        | image_tree(3, prefix="test/")
    )
    info, data = ingest_members(workdir, members)
    counts = {split: info.splits[split].count for split in dataset.SPLITS}
    assert counts == {"train": 8, "val": 4, "test": 6}
    expected = decode.decode(members["train/bee/0.png"], gray=False, size=10, max_pixels=1000)
    assert (data.images("train")[4].numpy() == expected).all()
    assert data.targets("train").tolist() == [0] * 4 + [1] * 4


def test_missing_split_is_drawn_from_training_alone(workdir):
    info, _ = ingest_members(
        workdir, image_tree(10, prefix="train/") | image_tree(3, prefix="test/")
    )
    assert {split: info.splits[split].count for split in dataset.SPLITS} == {
        "train": 18,
        "val": 2,
        "test": 6,
    }


def test_every_broken_file_is_named_at_once(workdir):
    good = png(1)
    error = assert_members_refused(
        workdir,
        {
            **image_tree(5),
            "../evil.png": good,
            "ant/cut.png": good[: len(good) // 2],
            "ant/text.png": b"hello",
            "bee/empty.jpg": b"",
            "bee/moving.gif": b"GIF89a",
            "loose.png": good,
        },
    )
    names = {item.name for item in error.items}
    loose = {"../evil.png", "bee/moving.gif", "loose.png"}
    assert names == loose | {"ant/cut.png", "ant/text.png", "bee/empty.jpg"}
    assert "6 parts of the data set" in error.message


def test_items_after_the_first_thousand_are_counted(workdir):
    broken = {f"ant/{i}.png": b"x" for i in range(1005)}
    error = assert_members_refused(workdir, image_tree(2) | broken)
    assert (len(error.items), error.num_items) == (1000, 1005)
    assert str(error).endswith("and 985 more\n" + error.hint)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "no images"),
        ({"readme.txt": b"hello"}, "no images"),
        (image_tree(5, ("ant",)), "one class"),
        (image_tree(5, prefix="val/"), "no images in train/"),
        (image_tree(1), "too few images to draw"),
    ],
)
def test_archive_without_a_usable_data_set_is_refused(workdir, members, words):
    assert words in assert_members_refused(workdir, members).message


def test_class_without_training_images_is_named(workdir):
    error = assert_members_refused(
        workdir, image_tree(5, prefix="train/") | image_tree(2, ("cow",), prefix="test/")
    )
    assert [(i.name, i.detail) for i in error.items] == [
        ("test/cow", "is a class without training images")
    ]


def test_too_many_pixels_are_refused_before_decoding(workdir):
    error = assert_members_refused(
        workdir, image_tree(3) | {"ant/big.png": png(1, (50, 50))}, max_pixels=2000
    )
    assert "50 x 50 pixels" in error.items[0].detail


def test_decoded_bytes_and_number_of_images_are_limited(workdir):
    flat = {
        name: encode_image(Image.new("RGB", (10, 10), (i, 0, 0)))
        for i, name in enumerate(image_tree(9))
    }
    assert "decoded" in assert_members_refused(workdir, flat, max_decoded_bytes=5000).message
    assert "18 images" in assert_members_refused(workdir, image_tree(9), max_images=17).message


def test_single_square_size_stays_and_mixed_sizes_become_the_median(tmp_path):
    for side, image_size in ((230, 230), (300, 256)):
        members = {k: png(i, (side, side)) for i, k in enumerate(image_tree(4))}
        info, _ = ingest_members(Workdir(tmp_path / str(side)), members)
        assert info.image_size == image_size
    sizes = [(20, 30), (40, 21), (25, 25), (22, 50), (23, 23), (24, 99), (20, 26), (30, 30)]
    members = {
        k: png(i, size) for (i, k), size in zip(enumerate(image_tree(4)), sizes, strict=True)
    }
    info, _ = ingest_members(Workdir(tmp_path / "b"), members)
    assert info.image_size == 22
    info, _ = ingest_members(
        Workdir(tmp_path / "c"), {k: png(i, (4, 5)) for i, k in enumerate(image_tree(4))}
    )
    assert info.image_size == 8
    info, _ = ingest_members(
        Workdir(tmp_path / "d"), {k: png(i, (300, 290)) for i, k in enumerate(image_tree(4))}
    )
    assert info.image_size == 224


def test_gray_images_have_one_channel_unless_one_image_has_color(tmp_path):
    members = {name: png(i, mode="L") for i, name in enumerate(image_tree(4))}
    info, _ = ingest_members(Workdir(tmp_path / "a"), members)
    assert info.in_channels == 1
    info, _ = ingest_members(Workdir(tmp_path / "b"), {**members, "ant/9.png": png(9)})
    assert info.in_channels == 3


def test_cancellation_ends_ingestion_between_two_images(workdir):
    workdir.cancellation.cancel()
    with pytest.raises(RunCancelledError):
        ingest_members(workdir, image_tree(5))
    assert not (workdir.path / "artifacts").exists()
