"""Arrays of images become a store; what is wrong with them is named."""

import io

import numpy as np
import pytest

from kdcore.data import dataset
from tests.kdcore.data.helpers import NUMBERS, PIXELS, npz, refused, rows, taken
from tests.kdcore.uploads import Room, archive


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_taken_as_they_are(room, packed):
    names = np.array(["zebra", "ant", "bee", "cow"])
    path = npz(
        room,
        packed,
        images=PIXELS[:24],
        labels=NUMBERS[:24],
        val_images=PIXELS[24:32],
        val_labels=NUMBERS[24:32].astype(np.uint8)[:, None],
        test_images=PIXELS[32:],
        test_labels=NUMBERS[32:],
        class_names=names,
    )
    data = taken(room, path)
    assert data.info.classes == tuple(names)
    assert np.array_equal(rows(data, "train"), PIXELS[:24])
    assert np.array_equal(rows(data, "test"), PIXELS[32:])
    assert data.targets("val").tolist() == NUMBERS[24:32].tolist()


def test_missing_splits_of_arrays_are_drawn_by_class(room):
    data = taken(room, npz(room, images=PIXELS[..., 0], labels=NUMBERS))
    assert data.info.in_channels == 1
    assert data.info.classes == ("0", "1", "2", "3")
    counts = {split: part.count for split, part in data.info.splits.items()}
    assert counts == {"train": 28, "val": 4, "test": 8}
    for split in dataset.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            row = np.flatnonzero((PIXELS[..., 0] == image[0].numpy()).all((1, 2)))
            assert NUMBERS[row].tolist() == [target]


def test_labels_of_arrays_may_be_text_and_numbers_keep_their_order(room, tmp_path):
    words = np.array(["bee", "ant"])[np.arange(40) % 2]
    assert taken(room, npz(room, images=PIXELS, labels=words)).info.classes == ("ant", "bee")
    other = Room(tmp_path / "b")
    numbers = np.where(np.arange(40) % 2, 10, 9)
    assert taken(other, npz(other, images=PIXELS, labels=numbers)).info.classes == ("9", "10")


def test_arrays_that_are_not_square_or_not_opaque(room):
    wide = np.zeros((40, 8, 12, 4), np.uint8)
    wide[:, :, 2:10, 0] = 200
    wide[:, :, 2:10, 3] = 255
    data = taken(room, npz(room, images=wide, labels=NUMBERS), image_size=8)
    assert data.images("train").shape[1:] == (3, 8, 8)
    assert (data.images("train")[:, 0] == 200).all()


def test_unlabeled_arrays(room):
    path = npz(room, images=PIXELS[:20], labels=NUMBERS[:20], unlabeled_images=PIXELS[20:])
    data = taken(room, path)
    assert np.array_equal(rows(data, "unlabeled"), PIXELS[20:])
    assert data.info.splits["unlabeled"].count == 20
    assert data.info.splits["unlabeled"].per_class == {}


@pytest.mark.parametrize(
    ("changed", "where", "words"),
    [
        ({"images": PIXELS.astype(np.float32)}, "images", "float32; uint8"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, "images", r"(40, 3, 9, 9)"),
        ({"images": np.asfortranarray(PIXELS)}, "images", "Fortran"),
        ({"images": PIXELS[0]}, "labels of train", "40, but there are 9 images"),
        ({"labels": NUMBERS[:39]}, "labels of train", "39, but there are 40"),
        ({"labels": NUMBERS - 1}, "labels of train", "-1 in row 0; 0 or more"),
        ({"labels": NUMBERS + 0.5}, "labels", "float64; integers or text"),
        ({"labels": np.eye(40)[:, :4]}, "labels", "(40, 4)"),
        ({"labels": np.array([{}] * 40)}, "labels", "never unpickled"),
        ({"class_names": np.array(["a", "b", "c"])}, "labels of train", "3 in row 3; 0 to 2"),
        ({"class_names": np.array(["a", "b", "a", "d"])}, "class_names", "a twice"),
        ({"test_images": PIXELS}, "images of test", "no labels"),
        ({"test_labels": NUMBERS}, "labels of test", "no images"),
        ({"train_images": PIXELS}, "train_images", "two names"),
        ({"x": NUMBERS}, "x", "`images` and `labels` are expected"),
    ],
)
def test_faults_of_arrays_are_named(room, changed, where, words):
    found = refused(room, npz(room, **{"images": PIXELS, "labels": NUMBERS} | changed))
    assert words in found[where]


def test_an_array_that_is_shorter_than_it_says(room):
    members = {}
    for name, array in (("images", PIXELS), ("labels", NUMBERS)):
        file = io.BytesIO()
        np.save(file, array)
        members[f"{name}.npy"] = file.getvalue()
    members["images.npy"] = members["images.npy"][:-100]
    found = refused(room, archive(room.path / "in.npz", members))
    assert "100 bytes are missing" in found["images.npy"]
