"""The guide's table of formats: each row is read, and each format has a row."""

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from kdcore.data import decode
from kdcore.data.ingest import formats
from kdcore.data.ingest.base import IngestContext
from kdcore.data.ingest.pipeline import ingest
from tests.kdcore.data.ingest.helpers import encode_shard, ingest_upload, write_upload
from tests.kdcore.data.ingest.test_archives import zstd
from tests.kdcore.data.ingest.test_parquet import encode_table
from tests.kdcore.uploads import png, write_archive

GUIDE = Path(__file__).parents[4] / "docs" / "how-to" / "bring-your-own.md"
COUNT = 20
LABELS = [number % 2 for number in range(COUNT)]
PNGS = [png(number) for number in range(COUNT)]
PIXELS = np.stack(
    [decode.decode(data, gray=False, size=10, max_pixels=100).transpose(1, 2, 0) for data in PNGS]
)
SOURCES = {"digits", "torchvision_sets"}
"""Formats that are no uploads."""


class Row(NamedTuple):
    """A row of the table: each file is the data set of PNGS and LABELS."""

    module: str
    title: str
    content: str
    files: dict[str, bytes]


def encode_zip(members):
    file = io.BytesIO()
    write_archive(file, members)
    return file.getvalue()


def encode_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encode_npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def name_members(pattern, content):
    """Members with names of the number ``n`` and the label ``k``."""
    return {pattern.format(n=n, k=LABELS[n]): content(n) for n in range(COUNT)}


TREE = name_members("{k}/{n}.png", PNGS.__getitem__)
MANIFEST = {
    **name_members("images/{n}.png", PNGS.__getitem__),
    "labels.csv": "\n".join(
        ["path,label", *(f"images/{n}.png,{LABELS[n]}" for n in range(COUNT))]
    ).encode(),
}
IMAGES = name_members("{n}.png", PNGS.__getitem__)
SAMPLES = IMAGES | name_members("{n}.cls", lambda n: str(LABELS[n]).encode())
JSON_SAMPLES = IMAGES | name_members("{n}.json", lambda n: f'{{"class_id": {LABELS[n]}}}'.encode())
TABLE = encode_table(0, COUNT, columns={"label": LABELS}, features={"image": {"_type": "Image"}})
ONE_HOT = np.eye(2)[LABELS]

ROWS = (
    Row(
        "image_folder",
        "zip or tar of images",
        "images in class folders: `train/cat/1.png`, `val/…`, `test/…`, or one tree `cat/1.png`",
        {
            "zip": encode_zip(TREE),
            "wrapped": encode_zip({f"top/{name}": data for name, data in TREE.items()}),
            "tar": encode_shard(TREE),
            "tar.gz": gzip.compress(encode_shard(TREE)),
            "tar.zst": zstd.compress(encode_shard(TREE)),
            "tar.bz2": bz2.compress(encode_shard(TREE)),
            "tar.xz": lzma.compress(encode_shard(TREE)),
        },
    ),
    Row(
        "csv_manifest",
        "zip or tar of images with a table",
        "`labels.csv`, `.tsv` or `.jsonl` with the columns `path`, `label` and, if you like, "
        "`split`; or a table for each split, `train.csv` and `test.csv`",
        {"zip": encode_zip(MANIFEST), "tar": encode_shard(MANIFEST)},
    ),
    Row(
        "npz",
        "`.npz`, or a zip or tar of `.npy`",
        "images and labels by their names: `images` and `labels`, `x_train` and `y_train`, `X` and "
        "`y`, `data` and `target`; optional `val_…`, `test_…`, `unlabeled_images`, `class_names`",
        {
            "npz": encode_npz(images=PIXELS, labels=LABELS),
            "x and y": encode_npz(x_train=PIXELS, y_train=LABELS),
            "X and y": encode_npz(X=PIXELS / 255, y=ONE_HOT),
            "NCHW": encode_npz(data=PIXELS.transpose(0, 3, 1, 2).copy(), target=LABELS),
            "npy": encode_zip({"x.npy": encode_npy(PIXELS), "y.npy": encode_npy(LABELS)}),
            "npy in tar": encode_shard({"x.npy": encode_npy(PIXELS), "y.npy": encode_npy(LABELS)}),
        },
    ),
    Row(
        "parquet",
        "Parquet, or a zip or tar of it",
        "the layout of Hugging Face: a column `image` with the bytes of image files, and `label`, "
        "whose names come from the schema; files such as `train-00000-of-00002.parquet`",
        {
            "parquet": TABLE,
            "zip": encode_zip({"data/train-00000-of-00001.parquet": TABLE}),
            "tar.gz": gzip.compress(encode_shard({"data/train-00000-of-00001.parquet": TABLE})),
        },
    ),
    Row(
        "webdataset",
        "WebDataset",
        "tar shards with `<key>.jpg` and `<key>.cls`, or `label`, `cls` or `class_id` in "
        "`<key>.json`; one tar, or a tar or zip of shards",
        {
            "tar": encode_shard(SAMPLES),
            "json": encode_shard(JSON_SAMPLES),
            "tar of tars": encode_shard({"a-000.tar": encode_shard(SAMPLES)}),
            "zip of tars": encode_zip({"a-000.tar.gz": gzip.compress(encode_shard(SAMPLES))}),
            "zip": encode_zip(SAMPLES),
        },
    ),
)
FILES = {f"{row.module}, {name}": (row, data) for row in ROWS for name, data in row.files.items()}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_the_table_is_read_by_its_format(workdir, case):
    row, upload = FILES[case]
    path = write_upload(workdir, upload)
    modules = []

    def ingest_and_name_format(request, folder, events, cancellation):
        with formats.open_reader(IngestContext(request, folder, events, cancellation)) as reader:
            modules.append(type(reader).__module__.rpartition(".")[2])
        ingest(request, folder, events, cancellation)

    data = ingest_upload(workdir, path, command=ingest_and_name_format)
    assert modules == [row.module]
    assert data.info.classes == ("0", "1")
    stored = {
        (image.numpy().tobytes(), int(target))
        for split in ("train", "val", "test")
        for image, target in zip(data.images(split), data.targets(split), strict=True)
    }
    pixels = PIXELS.transpose(0, 3, 1, 2)
    assert stored == {(image.tobytes(), label) for image, label in zip(pixels, LABELS, strict=True)}


def test_every_format_of_uploads_has_a_row():
    assert {row.module for row in ROWS} == set(formats.FORMATS) - SOURCES


def test_the_table_of_the_guide_has_the_rows_that_are_tested():
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| format | content |")
    table = lines[start + 2 : lines.index("", start)]
    assert table == [f"| {row.title} | {row.content} |" for row in ROWS]
