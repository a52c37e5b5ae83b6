"""Tables in an archive say the paths, labels and splits of its images."""

import json
import re

import pytest

from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    read_summary,
    write_upload,
)
from tests.kdcore.uploads import png, write_archive

LABELS = ("ant", "bee")


def images(count=20, pattern="images/{}.png"):
    return {pattern.format(number): png(number) for number in range(count)}


def table(rows, header="path,label", separator=","):
    lines = [header, *(separator.join(map(str, row)) for row in rows)]
    return "\r\n".join(lines).encode()


def rows(count=20, pattern="images/{}.png"):
    return [(pattern.format(number), LABELS[number % 2]) for number in range(count)]


def counts(data):
    return {split: part.count for split, part in data.info.splits.items()}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("labels.csv", table(rows())),
        ("images/labels.csv", table(rows(pattern="{}.png"))),
        ("labels.csv", table(rows(pattern="/home/me/set/images/{}.png"))),
        ("labels.csv", table(rows(pattern=".\\images\\{}.png"))),
        ("labels.csv", table(rows(pattern="{}"), header="id,class")),
        ("labels.csv", table(rows(pattern="{}.png"), header="Filename,Category")),
        ("labels.csv", b"\xef\xbb\xbf" + table(rows())),
        ("labels.csv", table(rows(), "path;label", ";")),
        ("labels.tsv", table(rows(), "path\tlabel", "\t")),
        ("labels.csv", table([(f'"{path}"', f'"{label}"') for path, label in rows()])),
    ],
)
@pytest.mark.parametrize("container", ["zip", "tar"])
def test_paths_and_labels_are_read_as_people_write_them(workdir, name, data, container):
    members = {**images(), name: data}
    if container == "zip":
        path = write_archive(workdir.path / "in.zip", members)
    else:
        path = write_upload(workdir, encode_shard(members))
    stored = ingest_upload(workdir, path)
    assert stored.info.classes == LABELS
    assert counts(stored) == {"train": 14, "val": 2, "test": 4}
    summary = read_summary(workdir)
    assert (summary.splits["train"].source, summary.ignored) == (name, ())


def test_splits_come_from_a_column_the_names_of_tables_or_folders(workdir):
    split = [*["training"] * 10, *["dev"] * 4, *["test"] * 4, *["unlabeled"] * 2]
    data = table([(*row, split[i]) for i, row in enumerate(rows())], "path,label,split")
    path = write_archive(workdir.path / "in.zip", {**images(), "labels.csv": data})
    assert counts(ingest_upload(workdir, path)) == {
        "train": 10,
        "val": 4,
        "test": 4,
        "unlabeled": 2,
    }


def test_tables_of_splits_are_read_together(workdir):
    members = images(30)
    every = rows(30)
    members["train.csv"], members["test.csv"] = table(every[:20]), table(every[20:28])
    path = write_archive(workdir.path / "in.zip", members)
    assert counts(ingest_upload(workdir, path)) == {"train": 18, "val": 2, "test": 8}
    summary = read_summary(workdir)
    assert summary.splits["test"].source == "test.csv"
    (ignored,) = summary.ignored
    assert (ignored.reason, ignored.count) == ("is not named in a table", 2)


def test_folders_of_splits_count_where_no_column_does(workdir):
    members = {f"{'test' if n > 13 else 'train'}/{n}.png": png(n) for n in range(20)}
    labels = [(path, LABELS[number % 2]) for number, path in enumerate(members)]
    path = write_archive(workdir.path / "in.zip", {**members, "labels.csv": table(labels)})
    assert counts(ingest_upload(workdir, path)) == {"train": 12, "val": 2, "test": 6}


@pytest.mark.parametrize("tables", [("train/labels.csv", "test/labels.csv"), ("labels.csv",)])
def test_bare_names_have_the_split_of_the_folder_that_has_the_image(workdir, tables):
    members = {f"{'test' if n > 13 else 'train'}/{n}.png": png(n) for n in range(20)}
    for name in tables:
        folder = name.rpartition("/")[0]
        numbers = [n for n in range(20) if f"{folder or 'test'}/{n}.png" in members or not folder]
        members[name] = table([(f"{n}.png", LABELS[n % 2]) for n in numbers])
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert counts(data) == {"train": 12, "val": 2, "test": 6}
    sources = {split: part.source for split, part in read_summary(workdir).splits.items()}
    assert sources["train"] == f"{tables[0]} (train/)"
    assert sources["test"] == f"{tables[-1]} (test/)"


def test_an_image_below_the_folder_of_the_table_is_chosen(workdir):
    members = {
        f"{split}/a/{n}.png": png(n + 50 * i)
        for i, split in enumerate(("train", "test"))
        for n in range(20)
    }
    members["train/labels.csv"] = members["test/labels.csv"] = table(rows(pattern="{}.png"))
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert counts(data) == {"train": 18, "val": 2, "test": 20}


@pytest.mark.parametrize("name", ["train/labels.csv", "train.csv"])
def test_the_end_of_a_path_in_another_split_is_refused(workdir, name):
    members = {f"{'test' if n == 3 else 'train'}/a/{n}.png": png(n) for n in range(20)}
    members[name] = table(rows(pattern="a/{}.png"))
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert list(details) == [f"{name}, line 5"]
    assert "the split train, but only test/a/3.png fits" in details[f"{name}, line 5"]


def test_an_exact_path_in_a_folder_of_another_split_is_a_warning(workdir):
    members = images(20, "train/{}.png")
    every = rows(20, "train/{}.png")
    members["train.csv"], members["val.csv"] = table(every[:16]), table(every[16:])
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.splits["val"].count == 4
    (warning,) = read_summary(workdir).warnings
    assert warning.startswith("val.csv names images in train/, which are read as val")


def test_a_column_with_a_name_for_splits_is_a_warning(workdir):
    data = table([(*row, "yes") for row in rows()], "path,label,is_train")
    path = write_archive(workdir.path / "in.zip", {**images(), "labels.csv": data})
    ingest_upload(workdir, path)
    assert "the column is_train of labels.csv is not read" in read_summary(workdir).warnings[0]


def test_further_columns_are_ignored_and_named(workdir):
    data = table([(*row, 7) for row in rows()], "path,label,weight")
    path = write_archive(workdir.path / "in.zip", {**images(), "labels.csv": data})
    ingest_upload(workdir, path)
    (ignored,) = read_summary(workdir).ignored
    assert ignored.reason == "is not a column of paths, labels or splits in labels.csv"
    assert ignored.examples == ("weight",)


def test_a_table_about_something_else_leaves_class_folders_alone(workdir):
    members = {f"{LABELS[n % 2]}/{n}.png": png(n) for n in range(20)}
    members["persons.csv"] = table([("ann", "photographer")], "file,class")
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.classes == LABELS
    assert read_summary(workdir).ignored[0].examples == ("persons.csv",)


@pytest.mark.parametrize(
    ("line", "header", "name", "words"),
    [
        (("images/99.png", "ant"), "path,label", "labels.csv, line 22", "not in the archive"),
        (("images/1.png", "ant"), "path,label", "labels.csv, line 22", "a second time"),
        (("images/x.png", ""), "path,label", "labels.csv, line 22", "has no label"),
        (("images/x.png", "-1"), "path,label", "labels.csv, line 22", "-1 is not a label"),
        (("same.png", "ant"), "path,label", "labels.csv, line 22", "may be a/same.png, b/same.png"),
        (("images/x.png", "ant", "zz"), "path,label", "labels.csv", "line 22 has 3 values"),
        (("images/x.png", "\xe4\xe4"), "path,label", "labels.csv", "is not UTF-8"),
    ],
)
def test_an_invalid_line_is_named(workdir, line, header, name, words):
    data = table([*rows(), line], header)
    if "\xe4" in line[1]:
        data = data.decode().encode("latin-1")
    members = {**images(), "labels.csv": data, "a/same.png": png(50), "b/same.png": png(51)}
    members["images/x.png"] = png(52)
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert set(details) == {name}
    assert words in details[name]


def test_an_unknown_split_is_named(workdir):
    data = table([(*row, "train") for row in rows()] + [("images/x.png", "ant", "third")])
    data = data.replace(b"path,label", b"path,label,split")
    members = {**images(), "labels.csv": data, "images/x.png": png(52)}
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert "'third'; train, val, test or unlabeled" in details["labels.csv, line 22"]


CAMERAS = {f"camera{n % 3}/{n}.png": png(n) for n in range(20)}
SPLITS = [*["train"] * 12, *["val"] * 4, *["test"] * 4]


def camera_table(header, *columns, suffix="csv", separator=","):
    rows = zip(CAMERAS, *columns, strict=True)
    return {**CAMERAS, f"annotations.{suffix}": table(rows, header, separator)}


def species():
    return [LABELS[number % 2] for number in range(20)]


@pytest.mark.parametrize(
    "members",
    [
        camera_table("image_path,species,subset", species(), SPLITS),
        camera_table("img,class,fold", species(), SPLITS),
        camera_table("photo,label,usage", species(), SPLITS),
        camera_table("File Name;Class Name;Partition", species(), SPLITS, separator=";"),
        camera_table(
            "image,ant,bee,split",
            [1 - number % 2 for number in range(20)],
            [f"{number % 2}.0" for number in range(20)],
            SPLITS,
        ),
        {
            **CAMERAS,
            "metadata.jsonl": "\n".join(
                json.dumps({"file_name": path, "label": label, "split": split})
                for path, label, split in zip(CAMERAS, species(), SPLITS, strict=True)
            ).encode(),
        },
    ],
)
def test_a_table_counts_and_folders_of_cameras_do_not(workdir, members):
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.classes == LABELS
    assert counts(data) == {"train": 12, "val": 4, "test": 4}
    assert read_summary(workdir).ignored == ()


def one_folder(members):
    """The same pictures and tables, with one camera."""
    text = {path: re.sub(rb"camera[0-9]", b"camera0", data) for path, data in members.items()}
    return {
        path.replace("camera1", "camera0").replace("camera2", "camera0"): text[path]
        for path in members
    }


@pytest.mark.parametrize(
    "members",
    [
        camera_table("image,kind", species()),
        camera_table("image,split", SPLITS),
        # Several classes of one image, in one folder.
        one_folder(camera_table("image,a,b", [1] * 20, [n % 2 for n in range(20)])),
    ],
)
def test_a_table_without_labels_is_refused_with_its_columns(workdir, members):
    with pytest.raises(UserError) as error:
        ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    header = members["annotations.csv"].splitlines()[0].decode().replace(",", ", ")
    assert error.value.message == (
        "annotations.csv names 20 of the 20 images, but none of its columns is read as labels: "
        + header
    )
    assert "name the column of labels `label`" in error.value.hint


def test_a_table_of_sizes_beside_class_folders_is_named_in_a_warning(workdir):
    members = {f"{LABELS[n % 2]}/{n}.png": png(n) for n in range(20)}
    sizes = [(path, path.partition("/")[0], 9) for path in members]
    members["sizes.csv"] = table(sizes, "file,folder,width")
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.classes == LABELS
    (warning,) = read_summary(workdir).warnings
    assert "sizes.csv names 20 of the 20 images" in warning
    assert "file, folder, width; the class folders were read instead" in warning


def test_a_fold_that_is_no_split_is_ignored_and_named(workdir):
    members = camera_table("image,label,fold", species(), [n % 5 for n in range(20)])
    ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert read_summary(workdir).ignored[0].examples == ("fold",)


@pytest.mark.parametrize("header", ["image,label,fold", "image,label,split"])
def test_a_split_column_with_another_word_is_refused_by_its_line(workdir, header):
    members = camera_table(header, species(), [*SPLITS[:-1], "extra"])
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert "has the split 'extra'" in details["annotations.csv, line 21"]
