"""Labels have one rule in every format, and class names one order."""

import json

import numpy as np
import pytest

from kdcore.data.class_labels import (
    InvalidLabelError,
    class_indices_of,
    class_name_of,
    class_names_of,
    equal_number_problems,
    order_class_names,
)
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    write_npz,
    write_upload,
)
from tests.kdcore.uploads import Workdir, encode_image, write_archive


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (7, "7"),
        ("cafe\u0301", "caf\u00e9"),
        (7.0, "7"),
        ("7", "7"),
        (" 7.0\n", "7"),
        (b"7", "7"),
        (np.float32(7), "7"),
        (np.uint8(7), "7"),
        (True, "1"),
        (0.0, "0"),
        ("01", "01"),
        (" owl ", "owl"),
        ("\u200bowl\u00a0\ufeff", "owl"),
        (b"\xef\xbb\xbf1\n", "1"),
        ("+1", "+1"),
        ("1.2.3", "1.2.3"),
        (None, ""),
        ("  ", ""),
    ],
)
def test_one_number_has_one_name(value, name):
    assert class_name_of(value) == name


@pytest.mark.parametrize("value", [-1, -1.0, "-1", "-1.0", 1.5, "1.5", float("nan"), 1e999, [1]])
def test_negative_numbers_fractions_and_other_types_are_refused(value):
    with pytest.raises(InvalidLabelError, match="an integer from 0, or a name, was expected"):
        class_name_of(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, 2.0, 2.5]), r"row 2: 2\.5 is not a label"),
        (np.array(["3", "owl", "-1"]), "row 2: -1 is not a label"),
        (np.array(["3", "", "-1"]), "row 1: the label is empty"),
    ],
)
def test_first_row_with_an_invalid_label_is_named(values, message):
    with pytest.raises(InvalidLabelError, match=message):
        class_names_of(values)


def test_arrays_of_any_type_give_the_same_names():
    for dtype in (np.uint8, np.int64, np.float32, "U4"):
        assert class_names_of(np.array([2, 0, 10, 2]).astype(dtype)) == ["2", "0", "10", "2"]


def test_indices_of_class_names_are_checked():
    assert class_indices_of(np.array([1.0, 0.0]), 2) == [1, 0]
    for value in (2, -1, 0.5, np.nan):
        with pytest.raises(InvalidLabelError, match="an integer from 0 to 1 was expected"):
            class_indices_of(np.array([0, value]), 2)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("10", "2", "1", "0"), ("0", "1", "2", "10")),
        (("010", "002", "001"), ("001", "002", "010")),
        (("10", "2", "owl"), ("10", "2", "owl")),
        (("b", "a", "b"), ("a", "b")),
    ],
)
def test_integers_are_sorted_as_numbers_and_other_names_as_text(names, order):
    assert order_class_names(names) == order


def test_two_spellings_of_one_number_are_a_problem():
    assert equal_number_problems(["1", "01", "2", "owl"]) == {
        "01": "is the same number as the class 1: use one spelling for one class"
    }


def numbered_images(numbers, per_class):
    """Pixels (N, 8, 8) uint8 and labels (N,), by class and number of the image."""
    labels = [number for number in numbers for _ in range(per_class)]
    pixels = np.random.default_rng(1).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    return pixels, labels


def test_folder_arrays_and_shards_have_the_same_classes_and_digest(tmp_path):
    # In the order of the texts, in which folders and shards list their files.
    pixels, labels = numbered_images(("0", "1", "10", "2"), 3)
    splits = {"train": pixels, "val": 255 - pixels, "test": pixels // 2}
    folder, shard, arrays = {}, {}, {}
    for split, images in splits.items():
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            png = encode_image(_gray(image))
            folder[f"{split}/{label}/{row:02d}.png"] = png
            shard |= {f"{split}/{row:02d}.png": png, f"{split}/{row:02d}.cls": label.encode()}
        arrays |= {f"{split}_images": images, f"{split}_labels": np.array(labels).astype(float)}
    workdirs = [Workdir(tmp_path / name) for name in ("folder", "shard", "arrays")]
    paths = [
        write_archive(workdirs[0].path / "in.zip", folder),
        write_upload(workdirs[1], encode_shard(shard)),
        write_npz(workdirs[2], **arrays),
    ]
    infos = [ingest_upload(w, path).info for w, path in zip(workdirs, paths, strict=True)]
    assert {info.classes for info in infos} == {("0", "1", "2", "10")}
    assert len({info.digest for info in infos}) == 1


def _gray(pixels):
    from PIL import Image

    return Image.fromarray(pixels)


@pytest.mark.parametrize("label", [-1, 1.5])
def test_every_format_refuses_the_same_labels(tmp_path, label):
    pixels, _ = numbered_images(("0",), 4)
    labels, expected = [0, 0, 1, label], f"{label} is not a label: an integer from 0"
    png = [encode_image(_gray(image)) for image in pixels]
    for kind in ("cls", "json", "array"):
        workdir = Workdir(tmp_path / kind)
        if kind == "array":
            path = write_npz(workdir, images=pixels, labels=np.array(labels))
        else:
            encode = json.dumps if kind == "cls" else lambda value: json.dumps({"label": value})
            members = {f"{row}.png": data for row, data in enumerate(png)}
            members |= {f"{row}.{kind}": encode(v).encode() for row, v in enumerate(labels)}
            path = write_upload(workdir, encode_shard(dict(sorted(members.items()))))
        details = assert_upload_refused(workdir, path)
        assert any(expected in detail for detail in details.values()), (kind, details)


def test_spellings_of_one_number_and_negative_folders_are_refused(tmp_path):
    png = encode_image(_gray(np.zeros((8, 8), np.uint8)))
    for folders, name, words in (
        (("1", "01", "2"), "01", "the same number as the class 1"),
        (("-1", "1", "2"), "-1/0.png", "a negative number: number classes from 0"),
    ):
        workdir = Workdir(tmp_path / folders[0])
        members = {f"{folder}/{row}.png": png for folder in folders for row in range(3)}
        details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
        assert words in details[name]


def test_one_number_with_and_without_a_plus_sign_is_refused():
    assert equal_number_problems(["+1", "like"]) == {}
    assert list(equal_number_problems(["+1", "1", "2"])) == ["+1"]
