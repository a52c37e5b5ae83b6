"""Images that splits share, images with two labels, and copies: counted, or dropped."""

import numpy as np
import pytest

from kdcore.data import dataset
from kdcore.data.ingest.base import LabeledImage
from kdcore.data.ingest.duplicates import PixelDigests, positions_to_drop
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import encode_shard, ingest_upload, labeled_samples
from tests.kdcore.data.ingest.test_split_names import read_summary
from tests.kdcore.uploads import image_tree, png, write_archive


def ingest_members(workdir, members, **options):
    return ingest_upload(workdir, write_archive(workdir.path / "in.zip", members), **options)


def copy_test_from_train():
    train = image_tree(6, prefix="train/")
    copies = {name.replace("train/", "test/"): data for name, data in train.items() if "/0" in name}
    return train | copies | {"test/ant/new.png": png(77), "val/ant/new.png": png(78)}


def counts_of(data):
    return {split: part.count for split, part in data.info.splits.items()}


def test_images_that_test_shares_with_train_are_a_warning(workdir):
    data = ingest_members(workdir, copy_test_from_train())
    assert counts_of(data) == {"train": 12, "val": 1, "test": 3}
    assert read_summary(workdir)["warnings"] == [
        "2 of 3 test images are in train, too, so accuracies on test are too high, for example "
        "test/ant/0.png = train/ant/0.png; test/bee/0.png = train/bee/0.png"
    ]


def test_dropped_copies_leave_train_and_never_test(workdir):
    data = ingest_members(workdir, copy_test_from_train(), on_duplicates="drop")
    assert counts_of(data) == {"train": 10, "val": 1, "test": 3}
    summary = read_summary(workdir)
    assert summary["warnings"] == []
    assert summary["ignored"] == [
        {
            "reason": "is a copy of another image (on_duplicates: drop)",
            "count": 2,
            "examples": ["train/ant/0.png", "train/bee/0.png"],
        }
    ]


def test_image_with_two_labels_is_a_warning_or_dropped_everywhere(workdir):
    members = image_tree(10) | {"bee/again.png": image_tree(10)["ant/0.png"]}
    assert sum(counts_of(ingest_members(workdir, members)).values()) == 21
    warnings = read_summary(workdir)["warnings"]
    # The two may also be drawn into different splits.
    assert warnings[-1] == "1 image has two labels, for example ant/0.png = bee/again.png"
    dropped = ingest_members(workdir, members, on_duplicates="drop")
    assert sum(counts_of(dropped).values()) == 19
    assert read_summary(workdir)["ignored"][0]["examples"] == ["ant/0.png", "bee/again.png"]


def test_copies_in_one_tree_are_counted_before_splits_are_drawn(workdir):
    tree = image_tree(10)
    copies = {name.replace("/", "/copy-"): data for name, data in tree.items()}
    ingest_members(workdir, tree | copies)
    warnings = read_summary(workdir)["warnings"]
    assert any("repeat others of train, for example " in text for text in warnings)
    dropped = ingest_members(workdir, tree | copies, on_duplicates="drop")
    assert sum(counts_of(dropped).values()) == 20
    assert read_summary(workdir)["warnings"] == []
    rows = [image.numpy().tobytes() for s in dataset.SPLITS for image in dropped.images(s)]
    assert len(set(rows)) == 20


def test_class_that_loses_all_training_images_is_named(workdir):
    train = image_tree(3, prefix="train/")
    members = train | {n.replace("train/ant", "test/ant"): d for n, d in train.items()}
    with pytest.raises(UserError) as error:
        ingest_members(workdir, members, on_duplicates="drop")
    (item,) = error.value.items
    assert (item.name, "no training images left" in item.detail) == ("ant", True)


def test_unlabeled_copies_do_not_count_as_a_second_label(workdir):
    members = image_tree(10) | {"unlabeled/1.png": image_tree(10)["ant/0.png"]}
    data = ingest_members(workdir, members, on_duplicates="drop")
    assert counts_of(data)["unlabeled"] == 1
    assert sum(counts_of(data).values()) == 21


def test_equal_pixels_are_grouped_by_position():
    digests = PixelDigests(7)
    for position, value in enumerate((0, 1, 0, 2, 1)):
        digests.add(position, np.full((3, 4, 4), value, np.uint8))
    assert digests.groups() == [[0, 2], [1, 4]]  # the last two have no pixels
    images = [LabeledImage((str(n),), "train", label, n) for n, label in enumerate("ababcd")]
    assert positions_to_drop(images, [[0, 2], [1, 4]]) == {1, 2, 4}


@pytest.mark.parametrize("upload_format", ["samples", "shards", "table"])
def test_copies_are_dropped_from_every_format(workdir, upload_format):
    samples = labeled_samples(0, 20) | {"./copy.png": png(0), "./copy.cls": b"ant"}
    if upload_format == "samples":
        members = samples
    elif upload_format == "shards":
        members = {"train.tar": encode_shard(samples)}
    else:
        members = {name[2:]: data for name, data in samples.items() if name.endswith(".png")}
        lines = [f"{name},{samples['./' + name[:-4] + '.cls'].decode()}" for name in members]
        members["labels.csv"] = "\n".join(["path,label", *lines]).encode()
    data = ingest_members(workdir, members, on_duplicates="drop")
    assert sum(counts_of(data).values()) == 20
