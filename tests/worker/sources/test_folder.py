"""A folder of the server: what is read, and that nothing outside of it is."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdcore.runtime.errors import UserError
from tests.kdcore.uploads import Workdir
from tests.worker.sources.helpers import (
    folder_reader,
    ingest_source,
    open_listed,
    write_files,
)
from tests.worker.sources.test_resume import FailingReader
from worker.sources.file_readers import SourceRefusedError

CANARY = b"canary-4711"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "allowed", {"ant/1.png": b"one", "bee/2.png": b"two"})


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return write_files(tmp_path / "allowed2", {"secret.png": CANARY, "sub/3.png": CANARY})


def test_files_are_read_in_any_order(folder: Path) -> None:
    write_files(folder, {"bee/large.bin": bytes(range(256)) * 40_000, "bee/empty.png": b""})
    with open_listed(folder_reader(folder)) as archive:
        members = {member.name: member for member in archive.members}
        assert set(members) == {"ant/1.png", "bee/2.png", "bee/large.bin", "bee/empty.png"}
        archive.expect_reads(list(members.values()))
        assert archive.read(members["bee/2.png"]) == b"two"
        with archive.stream(members["bee/large.bin"]) as stream:
            assert stream.read(3) == b"\0\1\2"
            assert archive.read(members["ant/1.png"]) == b"one"
            assert stream.read() == (bytes(range(256)) * 40_000)[3:]
            stream.seek(-2, os.SEEK_END)
            assert stream.read() == b"\xfe\xff"
        assert archive.read(members["bee/empty.png"]) == b""
        assert archive.total_bytes == 256 * 40_000 + 6


def test_reads_ahead_keep_their_order(folder: Path) -> None:
    files = {f"cat/{number:03d}.png": b"%03d" % number * 1000 for number in range(200)}
    write_files(folder, files)
    with open_listed(folder_reader(folder, folder / "cat")) as archive:
        archive.expect_reads(archive.members)
        for number, member in enumerate(archive.members):
            if number == 50:  # another read in between
                assert archive.read(archive.members[0]) == files["cat/000.png"]
            assert archive.read(member) == files[f"cat/{member.name}"]


def test_links_that_leave_the_folder_are_refused(folder: Path, outside: Path) -> None:
    (folder / "ant/link.png").symlink_to(outside / "secret.png")
    (folder / "ant/missing.png").symlink_to(outside / "nothing.png")
    (folder / "sub").symlink_to(outside / "sub")
    (folder / "inside.png").symlink_to("ant/1.png")
    (folder / "again").symlink_to("ant")
    os.mkfifo(folder / "ant/pipe.png")
    with open_listed(folder_reader(folder)) as archive:
        problems = {item.name: item.detail for item in archive.problems}
        contents = {member.name: archive.read(member) for member in archive.members}
    leaves = "is a link that leaves the folder; put the file itself into the folder"
    assert problems == {
        **dict.fromkeys(("ant/link.png", "ant/missing.png", "sub"), leaves),
        "again": "is a link to a folder; put the folder itself there",
        "ant/pipe.png": "is not a regular file",
    }
    assert contents == {"ant/1.png": b"one", "bee/2.png": b"two", "inside.png": b"one"}


def test_folder_behind_a_link_is_refused(folder: Path, outside: Path) -> None:
    (folder / "sub").symlink_to(outside)
    with (
        pytest.raises(UserError, match="link that leaves the folder"),
        open_listed(folder_reader(folder, folder / "sub")),
    ):
        pass


def test_link_that_replaces_a_file_after_the_list_is_refused(folder: Path, outside: Path) -> None:
    reader = folder_reader(folder)
    listed = {file.name: file for file in reader.list_files()}
    (folder / "ant/1.png").unlink()
    (folder / "ant/1.png").symlink_to(outside / "secret.png")
    (folder / "bee").rename(folder / "other")
    (folder / "bee").symlink_to(outside)
    write_files(outside, {"2.png": CANARY})
    for name in listed:
        with pytest.raises(SourceRefusedError, match="link that leaves the folder") as error:
            reader.read(listed[name], 0, 3)
        assert error.value.name == name
    reader.close()


@pytest.mark.parametrize("change", ["content", "size", "gone"])
def test_file_that_changed_after_the_list_is_refused(folder: Path, change: str) -> None:
    with open_listed(folder_reader(folder)) as archive:
        path = folder / "ant/1.png"
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes(b"ONE" if change == "content" else b"larger")
            os.utime(path, ns=(0, 1))
        with pytest.raises(UserError, match=r"^ant/1.png changed after the files were") as error:
            archive.read(archive.members[0])
    assert [item.name for item in error.value.items] == ["ant/1.png"]


def test_one_file_is_a_source(folder: Path) -> None:
    write_files(folder, {"sets/data.zip": b"zip"})
    for source in (folder / "sets/data.zip", folder / "sets"):
        with open_listed(folder_reader(folder, source)) as archive:
            assert archive.single is not None
            assert archive.single.name == "data.zip"
            assert archive.read(archive.single) == b"zip"


def test_archive_beside_images_is_a_problem(folder: Path) -> None:
    write_files(folder, {"more.zip": b"zip"})
    with open_listed(folder_reader(folder)) as archive:
        assert [item.name for item in archive.problems] == ["more.zip"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=f"folder:{tmp_path}/none does not exist on the worker"),
        open_listed(folder_reader(tmp_path, tmp_path / "none")),
    ):
        pass


@pytest.mark.parametrize("path", ["etc/secret.png", "etc/none", "etc/secret.png/x", "etc", "none"])
def test_paths_behind_a_link_have_one_error(folder: Path, outside: Path, path: str) -> None:
    (folder / "etc").symlink_to(outside)
    (folder / "none").symlink_to(outside / "none")
    source = folder / path
    with (
        pytest.raises(UserError, match=f"^folder:{source} is a link that leaves the folder"),
        open_listed(folder_reader(folder, source)),
    ):
        pass


def test_file_with_other_bytes_and_its_earlier_time_has_changed(folder: Path) -> None:
    path = folder / "ant/1.png"
    before = path.stat()
    with open_listed(folder_reader(folder)) as archive:
        digest = archive.list_digest
        path.write_bytes(b"ONE")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(UserError, match=r"^ant/1.png changed after"):
            archive.read(archive.members[0])
    with open_listed(folder_reader(folder)) as archive:
        assert archive.list_digest != digest


def test_deep_folders_are_refused(folder: Path) -> None:
    folder.joinpath(*["x"] * 102).mkdir(parents=True)
    with (
        pytest.raises(UserError, match="has more than 100 folders inside each other"),
        open_listed(folder_reader(folder)),
    ):
        pass


def test_one_file_above_the_limit_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    path = tmp_path / "set/data.zip"
    path.touch()
    os.truncate(path, 1 << 40)
    reader = FailingReader(folder_reader(tmp_path, path))
    with pytest.raises(UserError, match=r"^data.zip has 1099511627776 bytes; at most 1000 are"):
        ingest_source(Workdir(tmp_path / "1"), reader, max_decoded_bytes=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1))
    reader = FailingReader(folder_reader(tmp_path, path))
    with pytest.raises(OSError, match=r"no space for the 1099511627776 bytes of data.zip"):
        ingest_source(Workdir(tmp_path / "2"), reader, max_decoded_bytes=1 << 62)
    assert reader.reads == []
