"""Parquet files as Hugging Face writes them become a data set; every problem is named."""

import io
import json

import pytest

from kdcore.data.ingest.archives import byte_limit
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    read_summary,
    write_upload,
)
from tests.kdcore.uploads import Workdir, png, write_archive

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["zebra", "ant", "bee"]
LABEL = {"_type": "ClassLabel", "names": NAMES}


def encode_table(start=0, count=12, *, features=None, columns=None, row_group_size=5):
    """A Parquet file of images and their labels, number modulo 3."""
    numbers = range(start, start + count)
    data = {
        "image": [{"bytes": png(number), "path": f"{number}.png"} for number in numbers],
        "label": [number % 3 for number in numbers],
    }
    table = pa.table(data | (columns or {}))
    if features is None:
        features = {"image": {"_type": "Image"}, "label": LABEL}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=row_group_size)
    return file.getvalue()


def digest_of(workdir, data, name="upload"):
    return ingest_upload(workdir, write_upload(workdir, data, name)).info.digest


def test_names_and_order_of_the_classes_come_from_the_schema(workdir):
    data = ingest_upload(workdir, write_upload(workdir, encode_table()))
    assert data.info.classes == tuple(NAMES)
    assert sum(split.count for split in data.info.splits.values()) == 12
    assert read_summary(workdir).ignored == ()
    assert read_summary(workdir).warnings == ()


def test_class_names_that_are_other_indices_are_a_warning(workdir):
    label = {"_type": "ClassLabel", "names": ["2", "1", "0"]}
    table = encode_table(features={"image": {"_type": "Image"}, "label": label})
    assert ingest_upload(workdir, write_upload(workdir, table)).info.classes == ("2", "1", "0")
    (warning,) = read_summary(workdir).warnings
    assert "a label 0 that is a number is an index, the class 2" in warning


def test_shards_in_a_zip_and_a_tar_are_the_data_set_of_one_file(tmp_path):
    shards = {
        "data/train-00000-of-00002.parquet": encode_table(0, 12),
        "data/train-00001-of-00002.parquet": encode_table(12, 9),
        "data/validation-00000-of-00001.parquet": encode_table(21, 3),
        "data/test-00000-of-00001.parquet": encode_table(24, 3),
        "README.md": b"a card",
    }
    joined = {
        "train.parquet": encode_table(0, 21, row_group_size=50),
        "default/validation/0000.parquet": encode_table(21, 3),
        "default/test/0000.parquet": encode_table(24, 3),
    }
    digests = set()
    for name, members in (("zip", shards), ("tar", shards), ("joined", joined)):
        workdir = Workdir(tmp_path / name)
        if name == "tar":
            data = ingest_upload(workdir, write_upload(workdir, encode_shard(members)))
        else:
            data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
        digests.add(data.info.digest)
        counts = {split: part.count for split, part in data.info.splits.items()}
        assert counts == {"train": 21, "val": 3, "test": 3}
        assert not list(workdir.path.glob("*.unpacked"))
    assert len(digests) == 1
    summary = read_summary(Workdir(tmp_path / "zip"))
    assert summary.ignored[0].examples == ("README.md",)
    assert "data/train-00000-of-00002.parquet" in summary.splits["train"].source


@pytest.mark.parametrize(
    ("columns", "classes"),
    [
        ({}, ("0", "1", "2")),
        ({"label": [float(n % 3) for n in range(12)]}, ("0", "1", "2")),
        ({"label": [NAMES[n % 3] for n in range(12)]}, ("ant", "bee", "zebra")),
        ({"image": [png(n) for n in range(12)]}, ("0", "1", "2")),
        ({"id": list(range(12)), "caption": ["x"] * 12}, ("0", "1", "2")),
    ],
)
def test_tables_of_other_writers_need_no_metadata(workdir, columns, classes):
    table = encode_table(features={}, columns=columns)
    data = ingest_upload(workdir, write_upload(workdir, table))
    assert data.info.classes == classes
    names = [name for part in read_summary(workdir).ignored for name in part.examples]
    assert names == [name for name in columns if name not in ("image", "label")]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"columns": {"label": [-1] * 12}}, "row 0 of label: -1 marks an unknown label"),
        ({"columns": {"label": [7] * 12}}, "row 0 of label: 7 is not the number of a class"),
        ({"columns": {"label": [None] * 12}}, "row 0 of label: the label is missing"),
        ({"columns": {"label": [0.5] * 12}, "features": {}}, "0.5 is not a label"),
        (
            {
                "columns": {"fine": [0] * 12, "coarse": [0] * 12},
                "features": {"fine": LABEL, "coarse": LABEL},
            },
            "several columns of labels: fine, coarse; keep one of them",
        ),
        ({"columns": {"image": [[1, 2]] * 12}, "features": {}}, "no column of images, but image"),
        ({"features": {"label": {"_type": "ClassLabel", "names": ["a", "a"]}}}, "twice"),
        ({"features": {"label": {"_type": "ClassLabel", "names": 3}}}, "not a list of texts"),
    ],
)
def test_an_invalid_table_is_named(workdir, table, words):
    details = assert_upload_refused(workdir, write_upload(workdir, encode_table(**table)))
    assert set(details) == {"the upload"}
    assert words in details["the upload"]


def test_bad_images_are_named_by_their_rows(workdir):
    images = [{"bytes": png(n), "path": None} for n in range(12)]
    images[3] = {"bytes": b"no image", "path": None}
    images[4] = {"bytes": None, "path": "a/4.png"}
    images[5] = None
    table = encode_table(columns={"image": images})
    details = assert_upload_refused(workdir, write_upload(workdir, table))
    assert set(details) == {"train/00000003", "train/00000004", "train/00000005"}
    assert "only the path a/4.png" in details["train/00000004"]


def test_other_class_names_in_a_second_file_are_refused(workdir):
    other = {"label": {"_type": "ClassLabel", "names": NAMES[::-1]}}
    members = {"train.parquet": encode_table(), "test.parquet": encode_table(features=other)}
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert list(details) == ["train.parquet"]
    assert (
        "otherwise than test.parquet: zebra, ant, bee, not bee, ant, zebra"
        in (details["train.parquet"])
    )


def test_unlabeled_files_need_no_labels(workdir):
    members = {
        "train.parquet": encode_table(),
        "unlabeled.parquet": encode_table(12, 5, columns={"label": [-1] * 5}),
    }
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.splits["unlabeled"].count == 5


def test_bomb_is_refused_by_the_sizes_of_its_row_groups(workdir):
    images = [bytes(6 << 20)] * 12
    file = io.BytesIO()
    table = pa.table({"image": images, "label": [0] * 12})
    pq.write_table(table, file, compression="zstd", use_dictionary=False)
    assert len(file.getvalue()) < 100 << 10
    with pytest.raises(UserError, match="unpacks to more than"):
        ingest_upload(workdir, write_upload(workdir, file.getvalue()))


def test_damage_raises_only_user_errors(tmp_path):
    good = encode_table(0, 6)
    for trial in range(40):
        data = bytearray(good)
        for offset in range(trial * 7 + 4, len(data), max(1, len(data) // 5)):
            data[offset] ^= 0x55
        workdir = Workdir(tmp_path / str(trial))
        try:
            ingest_upload(workdir, write_upload(workdir, bytes(data)))
        except UserError:
            continue


def test_copies_in_shards_are_dropped_and_bytes_are_counted_once(workdir):
    members = {"train.parquet": encode_table(), "test.parquet": encode_table(11, 9)}
    path = write_archive(workdir.path / "in.zip", members)
    limit = 2 * sum(map(len, members.values()))
    data = ingest_upload(workdir, path, on_duplicates="drop", max_decoded_bytes=limit)
    counts = {name: part.count for name, part in data.info.splits.items()}
    assert (counts["test"], sum(counts.values())) == (9, 20)


def encode_bomb(size, num_rows):
    """Rows that all repeat one value, which the file stores once."""
    file = io.BytesIO()
    image = pa.DictionaryArray.from_arrays(pa.array([0] * num_rows), pa.array([bytes(size)]))
    table = pa.table({"image": image.cast(pa.binary()), "label": [0] * num_rows})
    pq.write_table(table, file, compression="zstd", dictionary_pagesize_limit=2 * size)
    assert len(file.getvalue()) < 100 << 10
    return file.getvalue()


def test_repeated_value_of_a_dictionary_is_refused_before_it_expands(workdir, monkeypatch):
    monkeypatch.setattr(byte_limit, "RATIO_MIN_BYTES", 16 << 20)
    path = write_upload(workdir, encode_bomb(1 << 20, 40))
    with pytest.raises(UserError, match="unpacks to more than"):
        ingest_upload(workdir, path, on_bad_image="skip")


def test_shards_share_one_limit(workdir, monkeypatch):
    monkeypatch.setattr(byte_limit, "RATIO_MIN_BYTES", 16 << 20)
    members = {f"train-{n}.parquet": encode_bomb(1 << 20, 10) for n in range(2)}
    with pytest.raises(UserError, match="unpacks to more than"):
        ingest_upload(workdir, write_upload(workdir, encode_shard(members)), on_bad_image="skip")


def test_long_label_is_refused_at_its_row(workdir):
    labels = ["ant"] * 11 + ["x" * 5000]
    path = write_upload(workdir, encode_table(columns={"label": labels}, features={}))
    (detail,) = assert_upload_refused(workdir, path).values()
    assert "row 11 of label: the label has 5000 characters; at most 200" in detail


def test_a_column_of_splits_is_read(workdir):
    words = ["train"] * 6 + ["Validation"] * 3 + ["test"] * 3
    data = ingest_upload(workdir, write_upload(workdir, encode_table(columns={"split": words})))
    assert {split: part.count for split, part in data.info.splits.items()} == {
        "train": 6,
        "val": 3,
        "test": 3,
    }
    assert read_summary(workdir).splits["test"].source == "the column split"
    assert read_summary(workdir).ignored == ()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"split": ["train"] * 11 + ["third"]}, "not read as splits: it has the value 'third'"),
        ({"is_train": [True] * 12}, "the column is_train of the upload is not read, but may say"),
    ],
)
def test_a_column_that_looks_like_splits_is_a_warning(workdir, columns, words):
    ingest_upload(workdir, write_upload(workdir, encode_table(columns=columns)))
    assert words in read_summary(workdir).warnings[0]
    assert read_summary(workdir).splits["train"].source == "the uploaded file"


def test_a_column_of_splits_that_contradicts_the_name_of_its_file_is_refused(workdir):
    members = {"train.parquet": encode_table(columns={"split": ["test"] * 12})}
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert "has train in its name or a folder, but test in the column" in details["train.parquet"]


def test_texts_called_image_beside_bytes_of_another_name_are_refused(workdir):
    columns = {"image": ["a.png"] * 12, "embedding": [png(n) for n in range(12)]}
    data = encode_table(columns=columns, features={"label": LABEL})
    details = assert_upload_refused(workdir, write_upload(workdir, data))
    assert "texts in the column image, and bytes in the column embedding" in details["the upload"]


def test_bytes_beside_a_column_of_paths_are_the_images(workdir):
    columns = {"image": ["a.png"] * 12, "image_bytes": [png(n) for n in range(12)]}
    data = encode_table(columns=columns, features={"label": LABEL})
    assert ingest_upload(workdir, write_upload(workdir, data)).info.classes == tuple(NAMES)


def test_a_class_name_without_images_is_named_with_what_to_do(workdir):
    label = {"_type": "ClassLabel", "names": [*NAMES, "owl"]}
    data = encode_table(features={"image": {"_type": "Image"}, "label": label})
    details = assert_upload_refused(workdir, write_upload(workdir, data))
    assert details == {
        "train/owl": "is a class without training images; take it out of the names of the "
        "classes, or add images"
    }
