"""Files of a source in each format that is read from an upload."""

import io
from pathlib import Path

import numpy as np
import pytest

from kdcore.data.ingest import base
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    encode_shard,
    ingest_upload,
    labeled_samples,
    read_summary,
)
from tests.kdcore.uploads import Workdir, encode_image, image_tree, png, write_archive
from tests.worker.sources.helpers import folder_reader, ingest_source, write_files

MANIFEST = {f"images/{number}.png": png(number) for number in range(20)} | {
    "labels.csv": b"path,label\n"
    + b"".join(b"images/%d.png,%d\n" % (number, number % 2) for number in range(20))
}
SHARDS = {f"train-{start}.tar": encode_shard(labeled_samples(start, 20)) for start in (0, 20)}


def array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


ARRAYS = {
    "images.npy": array(np.arange(40 * 81, dtype=np.uint8).reshape(40, 9, 9)),
    "labels.npy": array(np.arange(40) % 2),
}


@pytest.mark.parametrize(
    "files",
    [image_tree(), image_tree(prefix="train/"), MANIFEST, labeled_samples(0, 20), SHARDS, ARRAYS],
    ids=["tree", "splits", "manifest", "samples", "shards", "arrays"],
)
def test_folder_is_the_same_data_set_as_its_archive(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    archive = write_archive(tmp_path / "upload", files)
    uploaded = ingest_upload(Workdir(tmp_path / "one"), archive)
    folder = write_files(tmp_path / "folder", files)
    read = ingest_source(Workdir(tmp_path / "two"), folder_reader(folder))
    assert read.info == uploaded.info
    single = ingest_source(Workdir(tmp_path / "three"), folder_reader(tmp_path, archive))
    assert single.info == uploaded.info


def test_parquet_shards_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    folder = write_files(tmp_path / "folder", {})
    folder.mkdir()
    for split in ("train", "test"):
        rows = {"image": [png(number) for number in range(10)], "label": [0, 1] * 5}
        pyarrow.parquet.write_table(pa.table(rows), folder / f"{split}-00000-of-00001.parquet")
    read = ingest_source(Workdir(tmp_path / "work"), folder_reader(folder))
    assert read.info.splits["test"].count == 10


def test_header_behind_a_long_description_is_read(tmp_path: Path) -> None:
    """Only the beginning of large files is read for their headers; here it is not enough."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 16)
    exif = Image.Exif()
    exif[0x010E] = "x" * 65_000
    large = {
        "jpg": encode_image(image, "JPEG", exif=exif, comment=b"y" * 65_000, quality=95),
        "webp": encode_image(image, "WEBP", lossless=True),
        "png": encode_image(image),
    }
    files = {
        f"{label}/{kind}.{kind}": data for label in ("ant", "bee") for kind, data in large.items()
    }
    files |= {f"{label}/deep.png": encode_image(deep) for label in ("ant", "bee")}
    assert min(map(len, files.values())) > 65_536
    uploaded = ingest_upload(Workdir(tmp_path / "one"), write_archive(tmp_path / "upload", files))
    folder = write_files(tmp_path / "folder", files)
    read = ingest_source(Workdir(tmp_path / "two"), folder_reader(folder))
    assert read.info == uploaded.info
    assert read.info.sixteen_bit_range == 4096


def test_bad_files_of_a_folder_are_named(tmp_path: Path) -> None:
    files = image_tree() | {"ant/broken.png": png(1)[:40], "notes.txt": b"about", ".DS_Store": b""}
    folder = write_files(tmp_path / "folder", files)
    workdir = Workdir(tmp_path / "work")
    with pytest.raises(UserError) as error:
        ingest_source(workdir, folder_reader(folder))
    assert [item.name for item in error.value.items] == ["ant/broken.png"]
    ignored = {part.reason: part.examples for part in read_summary(workdir).ignored}
    assert ignored == {
        "is not an image": ("notes.txt",),
        "is hidden, or belongs to an operating system": (".DS_Store",),
    }


def test_files_of_shards_count_as_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "REPORT_EVERY_S", 0.0)
    folder = write_files(tmp_path / "folder", SHARDS)
    workdir = Workdir(tmp_path / "work")
    ingest_source(workdir, folder_reader(folder))
    reported = [event["progress"] for event in workdir.events() if event["type"] == "metrics"]
    assert {(item["step"], item["steps"]) for item in reported} >= {(0, 2), (1, 2), (39, 40)}
