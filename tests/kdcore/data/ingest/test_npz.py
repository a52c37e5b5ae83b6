"""Arrays of images become a data set; every problem with them is named."""

import io
import time

import numpy as np
import pytest

from kdcore.data import dataset
from kdcore.runtime.errors import UserError
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.data.ingest.helpers import (
    NUMBERS,
    PIXELS,
    assert_upload_refused,
    channels_last,
    encode_shard,
    ingest_upload,
    read_summary,
    write_npz,
    write_upload,
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


def store_arrays(workdir, **arrays):
    """Images (N, H, W[, C]) and labels of the data set of these arrays, in the order of rows."""
    data = ingest_upload(workdir, write_npz(workdir, **arrays))
    images = np.concatenate([channels_last(data, split) for split in dataset.SPLITS])
    labels = [data.info.classes[t] for split in dataset.SPLITS for t in data.targets(split)]
    return images, labels


def assert_read_alike(workdir, expected_names=("0", "1", "2", "3"), **arrays):
    """The arrays give the pixels and labels of PIXELS and NUMBERS."""
    images, labels = store_arrays(workdir, **arrays)
    known = {image.tobytes(): expected_names[n] for image, n in zip(PIXELS, NUMBERS, strict=True)}
    assert [known[image.tobytes()] for image in images] == labels
    assert len(images) == len(PIXELS)


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels"),
        ("x_train", "y_train"),
        ("X", "y"),
        ("Xtr", "Ytr"),
        ("trainX", "trainY"),
        ("data", "target"),
        ("train/imgs", "train/label"),
        ("arr_0", "arr_1"),
        ("cifar10.1_v6_data", "cifar10.1_v6_labels"),
        ("data/x_train", "data/y_train"),
        ("images/train", "labels/train"),
    ],
)
def test_arrays_are_recognized_by_their_names(workdir, names):
    assert_read_alike(workdir, **dict(zip(names, (PIXELS, NUMBERS), strict=True)))


@pytest.mark.parametrize(
    "images",
    [
        PIXELS / 255,
        (PIXELS / 255).astype(np.float16),
        PIXELS.astype(np.float32),
        PIXELS.astype(np.int64),
        PIXELS.astype(">u2"),
        PIXELS.transpose(0, 3, 1, 2).copy(),
    ],
)
def test_images_have_any_type_and_order_of_axes(workdir, images):
    assert_read_alike(workdir, images=images, labels=NUMBERS)


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS[:, None],
        NUMBERS.astype(np.float32),
        NUMBERS.astype("S1"),
        NUMBERS.astype(str),
        np.eye(4)[NUMBERS],
        np.eye(4, dtype=bool)[NUMBERS],
    ],
)
def test_labels_are_numbers_text_or_one_hot(workdir, labels):
    assert_read_alike(workdir, images=PIXELS, labels=labels)


@pytest.mark.parametrize("name", ["class_names", "classes", "label_names", "target_names"])
def test_class_names_have_several_names(workdir, name):
    names = np.array(["zebra", "ant", "bee", "cow"])
    assert_read_alike(workdir, names, images=PIXELS, labels=np.eye(4)[NUMBERS], **{name: names})


@pytest.mark.parametrize(
    ("names", "example"),
    [([2, 1, 0, 3], "0"), ([1, 2, 3, 4], "1"), ([0, 1, 2, 3], ""), ("abcd", "")],
)
def test_class_names_that_are_other_indices_are_a_warning(workdir, names, example):
    arrays = {"images": PIXELS, "labels": NUMBERS, "class_names": np.array(list(names))}
    ingest_upload(workdir, write_npz(workdir, **arrays))
    warnings = read_summary(workdir).warnings
    assert [f"a label {example} that is a number" in w for w in warnings] == [True] * bool(example)


def test_twelve_bits_and_bits_are_scaled_to_white(workdir, tmp_path):
    gray = PIXELS[..., 0]
    deep = gray.astype(np.uint16) * 16
    deep[0, 0, 0] = 4095
    images, _ = store_arrays(workdir, images=deep, labels=NUMBERS)
    expected = (deep.astype(np.int64) * 255 + 2047) // 4095
    assert sorted(map(bytes, images)) == sorted(map(bytes, expected.astype(np.uint8)))
    other = Workdir(tmp_path / "bits")
    images, _ = store_arrays(other, images=gray > 128, labels=NUMBERS)
    expected = np.where(gray > 128, 255, 0).astype(np.uint8)
    assert sorted(map(bytes, images)) == sorted(map(bytes, expected))


@pytest.mark.parametrize("shape", [(40, 81), (40, 81, 1), (40, 1, 81)])
def test_flat_rows_are_gray_squares(workdir, shape):
    images, _ = store_arrays(workdir, images=PIXELS[..., 0].reshape(shape), labels=NUMBERS)
    assert sorted(map(bytes, images)) == sorted(map(bytes, PIXELS[..., 0].copy()))


def test_pairs_of_npy_files_are_read_from_a_zip_and_a_tar(workdir, tmp_path):
    members = {}
    for name, array in (("d/x_train.npy", PIXELS), ("d/y_train.npy", NUMBERS)):
        file = io.BytesIO()
        np.save(file, array)
        members[name] = file.getvalue()
    zipped = ingest_upload(workdir, write_archive(workdir.path / "a", members))
    other = Workdir(tmp_path / "tar")
    packed = ingest_upload(other, write_upload(other, encode_shard(members)))
    assert zipped.info.digest == packed.info.digest
    source = read_summary(workdir).splits["train"].source
    assert source == "d/x_train (N x H x W x C, uint8) and d/y_train (40,)"


def test_further_arrays_are_ignored_and_named(workdir):
    objects = np.array([{}, None], dtype=object)
    assert_read_alike(
        workdir,
        images=PIXELS,
        labels=NUMBERS,
        meta=np.array(1),
        x_position=NUMBERS,
        label_images=PIXELS,
        file_names=objects,
    )
    (ignored,) = read_summary(workdir).ignored
    assert ignored.reason == "is not named as images, labels or class names"
    assert ignored.examples == ("meta", "x_position", "label_images", "file_names")


def test_dark_images_are_named_in_a_warning(workdir):
    store_arrays(workdir, images=PIXELS // 64, labels=NUMBERS)
    (warning,) = read_summary(workdir).warnings
    assert warning == "the largest value of images is 3, of 255, so images are dark"


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"images": PIXELS / 127.5 - 1}, "images", "save (images + 1) / 2"),
        ({"images": PIXELS / 51 - 2.5}, "images", "before their normalization"),
        ({"images": PIXELS / 15.9375}, "images", "save images / 16 if"),
        ({"images": np.where(PIXELS, np.nan, 1)}, "images", "not a number"),
        ({"images": PIXELS.astype(np.int64) << 20}, "images", "0 to 65535"),
        ({"images": np.asfortranarray(PIXELS)}, "images", "Fortran"),
        ({"images": PIXELS.reshape(40, -1)}, "images", "reshape(-1, 3, 9, 9)"),
        ({"images": PIXELS.reshape(40, 81, 3)}, "images", "save images.reshape(-1, 9, 9, 3)"),
        ({"images": PIXELS.reshape(40, 3, 81)}, "images", "save images.reshape(-1, 3, 9, 9)"),
        ({"images": PIXELS[:, 0, :8, :1]}, "images", "(40, 8)"),
        ({"images": PIXELS[:, :3]}, "images", "either the second or the last axis"),
        ({"images": PIXELS[..., :2]}, "images", "(40, 9, 9, 2)"),
        ({"images": PIXELS[0]}, "labels", "40 labels, but images has 9 images"),
        ({"labels": NUMBERS[:39]}, "labels", "39 labels, but images has 40"),
        ({"labels": NUMBERS - 1}, "labels", "row 0: -1 is not a label"),
        ({"labels": NUMBERS + 0.5}, "labels", "row 0: 0.5 is not a label"),
        ({"labels": np.eye(40)[:, :4]}, "labels", "row 4 with [0, 0, 0, 0]; one-hot rows"),
        ({"labels": np.full((40, 3), 1 / 3)}, "labels", "row 0 with [0.3333, "),
        ({"labels": np.array([{}] * 40)}, "labels", "never unpickled"),
        (
            {"class_names": np.array(["a", "b", "c"])},
            "labels",
            "row 3: 3 is not an index of class_names",
        ),
        (
            {"labels": np.eye(4)[NUMBERS], "class_names": np.array(["a", "b", "c"])},
            "labels",
            "4 columns, but there are 3 class names",
        ),
        ({"class_names": np.array(["a", "b", "a", "d"])}, "class_names", "a twice"),
        ({"test_images": PIXELS}, "test_images", "no array has labels of test"),
        ({"test_labels": NUMBERS}, "test_labels", "no array has images of test"),
        ({"train_images": PIXELS}, "train_images", "second array of images of train"),
        (
            {"images": PIXELS / 255, "test_images": PIXELS / 1.0, "test_labels": NUMBERS},
            "images",
            "up to 1, but test_images up to 255",
        ),
    ],
)
def test_an_invalid_array_is_named_once(workdir, changes, name, words):
    details = assert_upload_refused(
        workdir, write_npz(workdir, **{"images": PIXELS, "labels": NUMBERS} | changes)
    )
    assert set(details) == {name}
    assert words in details[name]


def test_arrays_without_images_are_listed(workdir):
    with pytest.raises(UserError, match=r"named as images; it has a \(40,\), b \(40, 2\)"):
        ingest_upload(workdir, write_npz(workdir, a=NUMBERS, b=np.ones((40, 2))))


def test_array_shorter_than_its_header_is_refused(workdir):
    members = {}
    for name, array in (("images", PIXELS), ("labels", NUMBERS)):
        file = io.BytesIO()
        np.save(file, array)
        members[f"{name}.npy"] = file.getvalue()
    members["images.npy"] = members["images.npy"][:-100]
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.npz", members))
    assert "100 bytes are missing" in details["images"]


def test_copies_are_dropped_and_bytes_are_counted_once(workdir):
    pixels = np.concatenate([PIXELS, PIXELS[:1]])
    path = write_npz(workdir, images=pixels, labels=np.append(NUMBERS, NUMBERS[0]))
    limit = pixels.nbytes * 3 // 2
    data = ingest_upload(workdir, path, on_duplicates="drop", max_decoded_bytes=limit)
    assert sum(split.count for split in data.info.splits.values()) == len(PIXELS)


def test_deep_integers_of_several_types_have_one_scale(workdir):
    images = np.full((40, 9, 9), 1000, np.uint16)
    images[0] = 4095
    arrays = {"x_train": images, "x_test": images[1:].astype(np.int32)}
    labels = {"y_train": NUMBERS, "y_test": NUMBERS[1:]}
    data = ingest_upload(workdir, write_npz(workdir, **arrays, **labels))
    assert data.images("test").unique().tolist() == [round(1000 * 255 / 4095)]


@pytest.mark.parametrize(
    ("dtype", "most", "white"), [("i8", 16, 31), ("i1", 15, 15), ("i4", 100, 127), ("i8", 200, 255)]
)
def test_integers_of_few_bits_use_their_range(workdir, dtype, most, white):
    images = (np.arange(81).reshape(9, 9) == np.arange(40)[:, None, None]).astype(dtype)
    images[0, 1] = most
    stored, _ = store_arrays(workdir, images=images, labels=NUMBERS)
    assert stored.max() == round(most * 255 / white)
    warnings = read_summary(workdir).warnings
    text = f"the largest value of images is {most} ({images.dtype}), so the range 0 to {white} of"
    assert [text in warning for warning in warnings] == ([] if white == 255 else [True])


@pytest.mark.parametrize(
    ("train", "test", "brightest", "words"),
    [
        (np.uint16([4095, 7]), np.int32([255, 9]), 16, "x_test is 255, of 4095 in the data set"),
        (np.uint8([255, 7]), np.int32([100, 9]), 100, None),
        (np.uint16([4095, 7]), np.uint8([255, 9]), 255, "x_test is uint8 with white as 255, but"),
    ],
)
def test_splits_of_several_integer_types_have_one_white(workdir, train, test, brightest, words):
    def images(values):
        pattern = np.arange(9 * 9).reshape(9, 9)
        return np.stack([np.where(pattern == row, *values) for row in range(40)])

    arrays = {"x_train": images(train).astype(train.dtype), "x_test": images(test)}
    arrays["x_test"] = arrays["x_test"].astype(test.dtype)
    data = ingest_upload(workdir, write_npz(workdir, **arrays, y_train=NUMBERS, y_test=NUMBERS))
    assert data.images("test").max() == brightest
    warnings = "\n".join(read_summary(workdir).warnings)
    assert words in warnings if words else "x_test" not in warnings


@pytest.mark.parametrize("dtype", ["U3", "S3", "M8[s]", "m8[s]", "V4", "c8"])
def test_images_that_are_not_numbers_are_refused(workdir, dtype):
    path = write_npz(workdir, X=np.zeros((4, 9), dtype), y=NUMBERS[:4])
    assert "numbers from 0 to 255" in assert_upload_refused(workdir, path)["X"]


def encode_with_type(array, old, new):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue().replace(old, new)


@pytest.mark.parametrize("new", [b"('<u1',(3,))", b"'<U0'        "])
def test_type_of_a_hostile_header_is_refused(workdir, new):
    # The new type is longer by the blanks that pad the header.
    hostile = encode_with_type(NUMBERS, b"'<i8', ", new + b", ")
    padding = len(new) - len(b"'<i8'")
    hostile = hostile.replace(b" " * padding + b"\n", b"\n", 1)
    images = encode_with_type(PIXELS, b"", b"")
    for members in (
        {"images.npy": images, "labels.npy": hostile},
        {"images.npy": hostile, "labels.npy": images},
    ):
        assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))


def test_class_names_are_composed_and_stripped(workdir):
    names = ["e\u0301", " b ", "c", "1.50"]
    labels = np.array(["\u00e9", "b", "c ", "1.50"])[NUMBERS]
    path = write_npz(workdir, images=PIXELS, labels=labels, class_names=np.array(names))
    assert ingest_upload(workdir, path).info.classes == ("\u00e9", "b", "c", "1.50")


def test_many_class_names_are_compared_in_linear_time(workdir):
    names = np.array([f"n{number}" for number in range(60_000)])
    names[-1] = names[0]
    path = write_npz(workdir, images=PIXELS, labels=NUMBERS, class_names=names)
    start = time.process_time()
    details = assert_upload_refused(workdir, path)
    assert details == {"class_names": "has n0 twice"}
    assert time.process_time() - start < 10
