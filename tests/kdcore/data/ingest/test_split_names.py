"""Splits by the words of folders, class folders and shards; two readings are refused."""

import pytest

from kdcore.data.ingest.splits import assign_shards, folder_word, resolve_words
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    labeled_samples,
    write_upload,
)
from tests.kdcore.uploads import image_tree, png, write_archive


def ingest_folders(workdir, *trees):
    members = {name: data for tree in trees for name, data in tree.items()}
    return ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))


def read_summary(workdir):
    return [event["summary"] for event in workdir.events() if event["type"] == "ingest_summary"][-1]


def read_sources(workdir):
    return {name: part["source"] for name, part in read_summary(workdir)["splits"].items()}


def refusal(workdir, *trees):
    members = {name: data for tree in trees for name, data in tree.items()}
    with pytest.raises(UserError) as error:
        ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    return error.value


@pytest.mark.parametrize(
    "words",
    [
        ("training", "validation", "testing"),
        ("Training", "Dev", "Holdout"),
        ("TRAIN", "val", "eval"),
        ("train", "Eval", "test"),
        ("train_set", "valid-images", "hold-out"),
    ],
)
def test_every_word_for_a_split_is_read(workdir, words):
    trees = [
        image_tree(count, prefix=f"{word}/") for word, count in zip(words, (5, 3, 2), strict=True)
    ]
    data = ingest_folders(workdir, *trees)
    assert data.info.classes == ("ant", "bee")
    counts = {split: part.count for split, part in data.info.splits.items()}
    assert counts == {"train": 10, "val": 6, "test": 4}
    assert read_sources(workdir) == {
        split: f"{word}/" for split, word in zip(("train", "val", "test"), words, strict=True)
    }


def test_evaluation_is_test_or_else_val():
    assert resolve_words(["train", "eval"])["eval"] == "test"
    assert resolve_words(["train", "eval", "testing"])["eval"] == "val"
    assert resolve_words(["train", "eval", "dev"])["eval"] == "test"


def test_two_words_for_one_split_are_refused_with_what_was_understood(workdir):
    trees = [image_tree(3, prefix=f"{word}/") for word in ("train", "test", "holdout")]
    error = refusal(workdir, *trees)
    assert error.message == (
        "holdout and test both name the test split "
        "(holdout means test, test means test, train means train)"
    )
    assert "merge or rename" in error.hint


def test_class_called_train_is_a_class(workdir):
    data = ingest_folders(workdir, image_tree(10, ("train", "car", "bus")))
    assert data.info.classes == ("bus", "car", "train")
    (warning,) = read_summary(workdir)["warnings"]
    assert warning.startswith("train/ is read as a class, not as a split")


def test_split_folders_without_class_folders_are_refused(workdir):
    error = refusal(workdir, {f"train/{i}.png": png(i) for i in range(9)}, {"test/1.png": png(99)})
    assert error.message == "no class folders are in test/, train/, which name splits"


def test_wrapping_folders_are_skipped(workdir):
    data = ingest_folders(workdir, image_tree(10, prefix="archive/pets v2/"))
    assert data.info.classes == ("ant", "bee")
    assert read_sources(workdir)["train"] == "class folders in archive/pets v2/"
    assert read_sources(workdir)["test"] == "drawn from train with split_seed 0"


def test_folders_between_split_and_class_are_skipped(workdir):
    trees = [
        image_tree(count, prefix=f"data/{word}/{word}/")
        for word, count in (("training_set", 5), ("test_set", 2))
    ]
    data = ingest_folders(workdir, *trees)
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["test"].count == 4
    assert read_sources(workdir)["test"] == "data/test_set/"


def test_many_wrapping_folders_are_skipped(workdir):
    trees = [
        image_tree(count, prefix=f"data/v1/x/{w}/") for w, count in (("train", 5), ("test", 2))
    ]
    data = ingest_folders(workdir, *trees)
    assert data.info.splits["test"].count == 4


@pytest.mark.parametrize("pattern", ["seg_{0}/seg_{0}/", "set/cats_{0}/"])
def test_words_in_names_are_splits_where_class_folders_are_the_same(workdir, pattern):
    trees = [image_tree(n, prefix=pattern.format(w)) for w, n in (("train", 5), ("test", 2))]
    root = "set/" if pattern.startswith("set/") else ""
    data = ingest_folders(workdir, *trees, {f"{root}unlabeled/1.png": png(99)})
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["test"].count == 4
    warning = read_summary(workdir)["warnings"][0]
    assert "_train/ are read as splits, because they hold the same class folders" in warning


def test_an_image_beside_folders_with_words_in_their_names_is_refused(workdir):
    trees = [image_tree(n, prefix=f"seg_{w}/") for w, n in (("train", 5), ("test", 2))]
    path = write_archive(
        workdir.path / "in.zip", trees[0] | trees[1] | {"seg_pred/seg_pred/1.png": png(99)}
    )
    details = assert_upload_refused(workdir, path)
    assert "is beside the split folders" in details["seg_pred/seg_pred/1.png"]


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("train-station/day", "test-tube/night"), ("test-tube", "train-station")),
        (("cats_train/a", "cats_test/a", "dogs/a"), ("cats_test", "cats_train", "dogs")),
        (("animal/cat", "animal/dog", "vehicle/car"), ("animal", "vehicle")),
    ],
)
def test_folders_in_class_folders_are_named(workdir, folders, classes):
    data = ingest_folders(workdir, image_tree(5, folders))
    assert data.info.classes == classes
    (warning,) = read_summary(workdir)["warnings"]
    assert "are not read as classes: " in warning
    assert f"{folders[0]}/" in warning


def test_equal_folders_in_all_class_folders_are_named(workdir):
    trees = [image_tree(5, ("images", "masks"), f"{name}/") for name in ("covid", "normal")]
    data = ingest_folders(workdir, *trees)
    assert data.info.classes == ("covid", "normal")
    warnings = read_summary(workdir)["warnings"]
    assert (
        "the classes are covid, normal, and all of them hold the folders images, masks"
        in (warnings[0])
    )


def test_folds_with_the_same_class_folders_are_refused(workdir):
    error = refusal(workdir, *(image_tree(3, prefix=f"fold{i}/") for i in (1, 2)))
    assert error.message.startswith("fold1/, fold2/ hold the same folders, ant, bee")
    assert "train/, val/ and test/" in error.hint


def test_blanks_around_the_name_of_a_folder_make_no_class(workdir):
    data = ingest_folders(workdir, image_tree(4, ("cat", "cat\u200b", "cat\u00a0", "dog")))
    assert data.info.classes == ("cat", "dog")
    assert "the class cat has 3 folders" in read_summary(workdir)["warnings"][0]


def test_splits_below_the_classes_are_read(workdir):
    members = {f"{name}/{word}/{i}.png": png(hash_of(name, word, i)) for name, word, i in cells()}
    data = ingest_folders(workdir, members)
    assert data.info.classes == ("ant", "bee")
    assert {split: part.count for split, part in data.info.splits.items()} == {
        "train": 6,
        "val": 6,
        "test": 6,
    }
    assert read_sources(workdir)["val"] == "<class>/valid/"


def cells():
    return [(n, w, i) for n in ("ant", "bee") for w in ("train", "valid", "test") for i in range(3)]


def hash_of(name, word, number):
    return sum(map(ord, name + word)) * 10 + number


def test_stray_image_beside_class_folders_is_named(workdir):
    path = write_archive(
        workdir.path / "in.zip", image_tree(5, prefix="data/") | {"data/cover.png": png(99)}
    )
    details = assert_upload_refused(workdir, path)
    assert set(details) == {"data/cover.png"}
    assert "is not in a class folder" in details["data/cover.png"]


def test_image_beside_split_folders_is_named(workdir):
    path = write_archive(
        workdir.path / "in.zip", image_tree(5, prefix="train/") | image_tree(1, ("car",))
    )
    details = assert_upload_refused(workdir, path)
    assert details == {"car/0.png": "is beside the split folders train/; move it into one"}


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("training", "testing")])
def test_folders_in_a_shard_are_splits(workdir, train, test):
    members = {f"{train}/{name}": data for name, data in labeled_samples(0, 16).items()}
    members |= {f"{test}/{name}": data for name, data in labeled_samples(50, 6).items()}
    data = ingest_upload(workdir, write_upload(workdir, encode_shard(members)))
    assert data.info.splits["test"].count == 6
    assert data.info.splits["train"].count + data.info.splits["val"].count == 16
    assert read_sources(workdir)["test"] == f"{test}/"


def test_any_word_of_a_shard_name_counts(workdir):
    shards = {
        f"imagenet-{word}-{number:04d}.tar": encode_shard(labeled_samples(start, 8))
        for start, (word, number) in enumerate(
            ((w, n) for w in ("training", "val", "Test") for n in range(2)), start=0
        )
        for start in [start * 8]
    }
    data = ingest_upload(workdir, write_upload(workdir, encode_shard(shards)))
    assert {part.count for part in data.info.splits.values()} == {16}
    assert read_sources(workdir)["val"] == "imagenet-val-{0000..0001}.tar"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        (("cifar10-train-{00..07}.tar",), "train"),
        (("data", "dev", "x.tar"), "val"),
        (("train", "my-test-0001.tar"), "train"),
        (("imagenetVal0001.tar",), "val"),
        (("a.tar", "holdout"), "test"),
        (("a.tar",), "train"),
    ],
)
def test_folder_counts_before_a_shard_name(path, split):
    assert assign_shards([path]).by_folder == {path: split}


def test_shard_name_with_two_splits_is_refused():
    with pytest.raises(UserError, match="words for several splits: train and val"):
        assign_shards([("train-val-0000.tar",)])


@pytest.mark.parametrize("name", ["cats-train", "train-station", "tester", "contrast", "images"])
def test_other_names_are_no_splits(name):
    assert folder_word(name) is None
