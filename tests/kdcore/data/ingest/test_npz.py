"""Arrays of images become a data set; every problem with them is named."""

import io

import numpy as np
import pytest

from kdcore.data import dataset
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.data.ingest.helpers import (
    NUMBERS,
    PIXELS,
    assert_upload_refused,
    channels_last,
    ingest_upload,
    write_npz,
)
from tests.kdcore.uploads import Workdir, write_archive


@pytest.mark.parametrize("compressed", [False, True])
def test_pixels_and_labels_are_stored_unchanged(workdir, compressed):
    names = np.array(["zebra", "ant", "bee", "cow"])
    path = write_npz(
        workdir,
        compressed,
        images=PIXELS[:24],
        labels=NUMBERS[:24],
        val_images=PIXELS[24:32],
        val_labels=NUMBERS[24:32].astype(np.uint8)[:, None],
        test_images=PIXELS[32:],
        test_labels=NUMBERS[32:],
        class_names=names,
    )
    data = ingest_upload(workdir, path)
    assert data.info.classes == tuple(names)
    assert np.array_equal(channels_last(data, "train"), PIXELS[:24])
    assert np.array_equal(channels_last(data, "test"), PIXELS[32:])
    assert data.targets("val").tolist() == NUMBERS[24:32].tolist()


def test_missing_splits_are_drawn_by_class(workdir):
    data = ingest_upload(workdir, write_npz(workdir, images=PIXELS[..., 0], labels=NUMBERS))
    assert data.info.in_channels == 1
    assert data.info.classes == ("0", "1", "2", "3")
    counts = {split: part.count for split, part in data.info.splits.items()}
    assert counts == {"train": 28, "val": 4, "test": 8}
    for split in dataset.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            row = np.flatnonzero((PIXELS[..., 0] == image[0].numpy()).all((1, 2)))
            assert NUMBERS[row].tolist() == [target]


def test_labels_may_be_text_and_numbers_keep_their_order(workdir, tmp_path):
    words = np.array(["bee", "ant"])[np.arange(40) % 2]
    assert ingest_upload(workdir, write_npz(workdir, images=PIXELS, labels=words)).info.classes == (
        "ant",
        "bee",
    )
    other = Workdir(tmp_path / "b")
    numbers = np.where(np.arange(40) % 2, 10, 9)
    assert ingest_upload(other, write_npz(other, images=PIXELS, labels=numbers)).info.classes == (
        "9",
        "10",
    )


def test_wide_and_transparent_images_are_cropped_and_flattened(workdir):
    wide = np.zeros((40, 8, 12, 4), np.uint8)
    wide[:, :, 2:10, 0] = 200
    wide[:, :, 2:10, 3] = 255
    data = ingest_upload(workdir, write_npz(workdir, images=wide, labels=NUMBERS), image_size=8)
    assert data.images("train").shape[1:] == (3, 8, 8)
    assert (data.images("train")[:, 0] == 200).all()


@pytest.mark.parametrize("name", ["unlabeled_images", f"{old_spelling('unlabeled')}_images"])
def test_unlabeled_images_are_read_under_both_spellings(workdir, name):
    arrays = {"images": PIXELS[:20], "labels": NUMBERS[:20], name: PIXELS[20:]}
    path = write_npz(workdir, **arrays)
    data = ingest_upload(workdir, path)
    assert np.array_equal(channels_last(data, "unlabeled"), PIXELS[20:])
    assert data.info.splits["unlabeled"].count == 20
    assert data.info.splits["unlabeled"].per_class == {}


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"images": PIXELS.astype(np.float32)}, "images", "float32; uint8"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, "images", r"(40, 3, 9, 9)"),
        ({"images": np.asfortranarray(PIXELS)}, "images", "Fortran"),
        ({"images": PIXELS[0]}, "labels of train", "40, but there are 9 images"),
        ({"labels": NUMBERS[:39]}, "labels of train", "39, but there are 40"),
        ({"labels": NUMBERS - 1}, "labels of train", "row 0: -1 is not a label"),
        ({"labels": NUMBERS + 0.5}, "labels of train", "row 0: 0.5 is not a label"),
        ({"labels": np.eye(40)[:, :4]}, "labels", "(40, 4)"),
        ({"labels": np.array([{}] * 40)}, "labels", "never unpickled"),
        (
            {"class_names": np.array(["a", "b", "c"])},
            "labels of train",
            "row 3: 3 is not an index of class_names",
        ),
        ({"class_names": np.array(["a", "b", "a", "d"])}, "class_names", "a twice"),
        ({"test_images": PIXELS}, "images of test", "no labels"),
        ({"test_labels": NUMBERS}, "labels of test", "no images"),
        ({"train_images": PIXELS}, "train_images", "two names"),
        ({"x": NUMBERS}, "x", "`images` and `labels` are expected"),
    ],
)
def test_invalid_arrays_are_named(workdir, changes, name, words):
    details = assert_upload_refused(
        workdir, write_npz(workdir, **{"images": PIXELS, "labels": NUMBERS} | changes)
    )
    assert words in details[name]


def test_array_shorter_than_its_header_is_refused(workdir):
    members = {}
    for name, array in (("images", PIXELS), ("labels", NUMBERS)):
        file = io.BytesIO()
        np.save(file, array)
        members[f"{name}.npy"] = file.getvalue()
    members["images.npy"] = members["images.npy"][:-100]
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.npz", members))
    assert "100 bytes are missing" in details["images.npy"]
