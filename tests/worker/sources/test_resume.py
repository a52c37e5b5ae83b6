"""An interrupted ingestion of a source continues; what was read is not read again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdcore.protocol.source_channel import ListedFile
from kdcore.runtime.errors import RunCancelledError
from tests.kdcore.data.ingest.helpers import encode_shard, labeled_samples
from tests.kdcore.uploads import Workdir, image_tree, write_archive
from tests.worker.sources.helpers import folder_reader, ingest_source, write_files
from worker.sources.file_readers import FileReader, SourceUnavailableError


class FailingReader:
    """Reads a folder in order, and does not respond any more after some reads."""

    num_threads = 1

    def __init__(self, reader: FileReader, max_reads: int = 1_000_000) -> None:
        self._reader = reader
        self._max_reads = max_reads
        self.reads: list[tuple[str, int]] = []

    @property
    def single(self) -> bool:
        return self._reader.single

    def list_files(self) -> Iterator[ListedFile]:
        return self._reader.list_files()

    def read(self, file: ListedFile, start: int, size: int) -> bytes:
        if len(self.reads) == self._max_reads:
            raise SourceUnavailableError("the source does not respond")
        self.reads.append((file.name, start))
        return self._reader.read(file, start, size)

    def close(self) -> None:
        self._reader.close()


def interrupt(workdir: Path, reader: FileReader, max_reads: int, resume: Path) -> FailingReader:
    """Ingest until the source does not respond any more."""
    failing = FailingReader(reader, max_reads)
    with pytest.raises(RunCancelledError, match="does not respond"):
        ingest_source(Workdir(workdir), failing, resume_dir=str(resume))
    return failing


def test_images_are_decoded_once(tmp_path: Path) -> None:
    folder, resume = write_files(tmp_path / "folder", image_tree(10)), tmp_path / "resume"
    expected = ingest_source(Workdir(tmp_path / "0"), folder_reader(folder))
    interrupt(tmp_path / "1", folder_reader(folder), 5, resume)
    # The five headers of the first run are not read again.
    interrupt(tmp_path / "2", folder_reader(folder), 15 + 12, resume)
    last = FailingReader(folder_reader(folder))
    dataset = ingest_source(Workdir(tmp_path / "3"), last, resume_dir=str(resume))
    assert dataset.info == expected.info
    assert len(last.reads) == 20 - 12


def test_copies_are_dropped_without_reading_again(tmp_path: Path) -> None:
    files = image_tree(10)
    files["ant/copy.png"] = files["ant/0.png"]
    reader = FailingReader(folder_reader(write_files(tmp_path / "folder", files)))
    options = {"resume_dir": str(tmp_path / "resume"), "on_duplicates": "drop"}
    dataset = ingest_source(Workdir(tmp_path / "work"), reader, **options)
    assert sum(split.count for split in dataset.info.splits.values()) == 20
    assert set(Counter(name for name, _ in reader.reads).values()) == {2}


def test_finished_shards_are_not_read_again(tmp_path: Path) -> None:
    shards = {f"{n}.tar": encode_shard(labeled_samples(n, 10)) for n in range(0, 50, 10)}
    folder, resume = write_files(tmp_path / "folder", shards), tmp_path / "resume"
    expected = ingest_source(
        Workdir(tmp_path / "0"), reader := FailingReader(folder_reader(folder))
    )
    num_reads = len(reader.reads)
    interrupt(tmp_path / "1", folder_reader(folder), num_reads - 2, resume)
    last = FailingReader(folder_reader(folder))
    dataset = ingest_source(Workdir(tmp_path / "2"), last, resume_dir=str(resume))
    assert dataset.info == expected.info
    assert num_reads // 2 < len(last.reads) < num_reads - 2


def test_copy_of_a_large_file_is_continued(tmp_path: Path) -> None:
    padding = {"padding.bin": bytes(12 << 20)}
    archive = write_archive(tmp_path / "data.zip", image_tree() | padding)
    reader = FailingReader(folder_reader(tmp_path, archive))
    expected = ingest_source(Workdir(tmp_path / "0"), reader)
    resume = tmp_path / "resume"
    interrupt(tmp_path / "1", folder_reader(tmp_path, archive), len(reader.reads) - 1, resume)
    last = FailingReader(folder_reader(tmp_path, archive))
    dataset = ingest_source(Workdir(tmp_path / "2"), last, resume_dir=str(resume))
    assert dataset.info == expected.info
    assert min(start for _, start in last.reads) > 4 << 20


def test_changed_source_is_read_from_its_beginning(tmp_path: Path) -> None:
    folder, resume = write_files(tmp_path / "folder", image_tree(10)), tmp_path / "resume"
    interrupt(tmp_path / "1", folder_reader(folder), 30, resume)
    (folder / "ant/0.png").write_bytes(image_tree(1, ("cat",))["cat/0.png"] + b"\0")
    expected = ingest_source(Workdir(tmp_path / "0"), folder_reader(folder))
    last = FailingReader(folder_reader(folder))
    dataset = ingest_source(Workdir(tmp_path / "2"), last, resume_dir=str(resume))
    assert (dataset.info, len(last.reads)) == (expected.info, 40)


def test_damaged_pixels_are_read_again(tmp_path: Path) -> None:
    folder, resume = write_files(tmp_path / "folder", image_tree(10)), tmp_path / "resume"
    interrupt(tmp_path / "1", folder_reader(folder), 30, resume)
    with (resume / "pixels").open("r+b") as file:
        file.write(b"damaged")
    with (resume / "rows").open("ab") as file:
        file.write(b"part of a row")
    expected = ingest_source(Workdir(tmp_path / "0"), folder_reader(folder))
    last = FailingReader(folder_reader(folder))
    dataset = ingest_source(Workdir(tmp_path / "2"), last, resume_dir=str(resume))
    assert (dataset.info, len(last.reads)) == (expected.info, 11)
