"""Hostile zips: every bad member is one problem, nothing is written, bytes are counted."""

import random
import stat
import struct
import warnings
import zipfile

import pytest

from kdcore.data.ingest.archives.safe_zip import Archive, UnreadableMemberError
from kdcore.runtime.errors import UserError
from tests.kdcore.uploads import image_tree, png, write_archive


def open_archive(path, **limits):
    defaults = {"max_bytes": 1 << 30, "max_members": 1000, "max_member_bytes": 1 << 28}
    return Archive(path, **defaults | limits)


def problems(path):
    with open_archive(path) as archive:
        return {problem.name: problem.detail for problem in archive.problems}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../canary.png", "'..'"),
        ("ant/../../canary.png", "'..'"),
        ("/tmp/canary.png", "absolute"),  # noqa: S108 - the point of the test
        ("C:/canary.png", "absolute"),
        ("..\\canary.png", "'..'"),
        ("\\\\server\\canary.png", "absolute"),
        ("ant/more.zip", "archive in the archive"),
        ("ant/more.gz", "archive in the archive"),
    ],
)
def test_bad_names_are_problems_beside_valid_members(tmp_path, name, words):
    path = write_archive(tmp_path / "a.zip", {**image_tree(1), name: png(1)})
    with open_archive(path) as archive:
        assert [p.name for p in archive.problems] == [name]
        assert words in archive.problems[0].detail
        assert len(archive.members) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_nul_in_a_name_is_a_problem(tmp_path):
    path = write_archive(tmp_path / "a.zip", {"ant/x_.png": png(1)})
    path.write_bytes(path.read_bytes().replace(b"ant/x_.png", b"ant/x\0.png"))
    assert problems(path) == {"ant/x\ufffd.png": "has a NUL character in its name"}


def test_links_and_pipes_are_problems(tmp_path):
    members = {}
    for file_type, name in ((stat.S_IFLNK, "link.png"), (stat.S_IFIFO, "pipe.png")):
        info = zipfile.ZipInfo(f"ant/{name}")
        info.external_attr = (file_type | 0o644) << 16
        members[info] = b"/etc/passwd"
    details = problems(write_archive(tmp_path / "a.zip", members))
    assert "is a link" in details["ant/link.png"]
    assert "not a regular file" in details["ant/pipe.png"]


def test_duplicate_members_are_problems(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for name in ("ant/1.png", "ant/1.png", "ant/./1.png"):
                file.writestr(name, png(1))
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive.problems) == 2
        assert len(archive.members) == 1


def test_encryption_and_unusual_compression_are_problems(tmp_path):
    path = write_archive(tmp_path / "a.zip", {"ant/1.png": png(1)})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in problems(path)["ant/1.png"]
    path = write_archive(tmp_path / "b.zip", {"ant/1.png": png(1)}, zipfile.ZIP_LZMA)
    assert "unsupported compression" in problems(path)["ant/1.png"]


def test_files_of_operating_systems_are_ignored(tmp_path):
    extra = ["__MACOSX/ant/._1.png", ".DS_Store", "ant/.hidden.png", "ant/Thumbs.db", ".git/x.png"]
    path = write_archive(tmp_path / "a.zip", {**image_tree(1), **dict.fromkeys(extra, b"")})
    with open_archive(path) as archive:
        assert not archive.problems
        assert len(archive.members) == 2
        assert archive.ignored == extra


def test_zip_bomb_is_stopped_by_its_unpacked_bytes(tmp_path):
    path = write_archive(tmp_path / "a.zip", {"ant/1.bmp": bytes(100 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with open_archive(path) as archive, pytest.raises(UserError, match="unpacks to more than"):
        archive.read(archive.members[0])
    with (
        open_archive(path, max_member_bytes=1 << 20) as archive,
        pytest.raises(UnreadableMemberError, match="1048576"),
    ):
        archive.read(archive.members[0])


def test_wrong_size_in_a_header_is_refused(tmp_path):
    path = write_archive(tmp_path / "a.zip", {"ant/1.bmp": bytes(5000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    path.write_bytes(data)
    with (
        open_archive(path) as archive,
        pytest.raises(UnreadableMemberError, match="cannot be unpacked"),
    ):
        archive.read(archive.members[0])


def test_total_bytes_are_limited(tmp_path):
    path = write_archive(tmp_path / "a.zip", image_tree(3))
    with (
        open_archive(path, max_bytes=1000) as archive,
        pytest.raises(UserError, match="1000 bytes"),
    ):
        [archive.read(member) for member in archive.members]


def test_too_many_members_are_refused(tmp_path):
    path = write_archive(tmp_path / "a.zip", image_tree(3))
    with pytest.raises(UserError, match="more than 5 files"):
        open_archive(path, max_members=5, extra_members=0)


def test_damaged_member_is_unreadable(tmp_path):
    path = write_archive(tmp_path / "a.zip", {"ant/1.png": bytes(range(200))})
    path.write_bytes(path.read_bytes().replace(bytes(range(100)), bytes(100)))
    with open_archive(path) as archive, pytest.raises(UnreadableMemberError, match="CRC"):
        archive.read(archive.members[0])


def test_zip_that_is_cut_off_is_explained(tmp_path):
    path = write_archive(tmp_path / "a.zip", image_tree(1))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cut off") as error:
        open_archive(path)
    assert error.value.code == "dataset_invalid"


def test_random_damage_raises_only_expected_errors(tmp_path):
    good = write_archive(tmp_path / "a.zip", image_tree(2)).read_bytes()
    chance = random.Random(1)
    for trial in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data) - 400, len(data))] = chance.randrange(256)
        path = tmp_path / "b.zip"
        path.write_bytes(data[: len(data) - trial % 7])
        try:
            with open_archive(path) as archive:
                for member in archive.members:
                    try:
                        archive.read(member)
                    except UnreadableMemberError:
                        continue
        except UserError:
            continue
