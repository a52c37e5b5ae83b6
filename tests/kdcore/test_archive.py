"""Hostile archives: every bad member is one item, nothing is written, bytes are counted."""

import random
import stat
import struct
import warnings
import zipfile

import pytest

from kdcore.data.ingest.safe_zip import Archive, UnreadableMemberError
from kdcore.runtime.errors import UserError
from tests.kdcore.uploads import archive, png, tree


def opened(path, **caps):
    return Archive(
        path, **{"max_bytes": 1 << 30, "max_members": 1000, "max_member": 1 << 28} | caps
    )


def problems(path):
    with opened(path) as archive_:
        return {problem.name: problem.detail for problem in archive_.problems}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../canary.png", "'..'"),
        ("ant/../../canary.png", "'..'"),
        ("/tmp/canary.png", "absolute"),  # noqa: S108 - the point of the test
        ("C:/canary.png", "absolute"),
        ("ant\\canary.png", "backslash"),
        ("ant/more.zip", "archive in the archive"),
        ("ant/more.tar.gz", "archive in the archive"),
    ],
)
def test_bad_names_are_items_beside_good_members(tmp_path, name, words):
    path = archive(tmp_path / "a.zip", {**tree(1), name: png(1)})
    with opened(path) as found:
        assert [p.name for p in found.problems] == [name]
        assert words in found.problems[0].detail
        assert len(found.members) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_a_nul_in_a_name(tmp_path):
    path = archive(tmp_path / "a.zip", {"ant/x_.png": png(1)})
    path.write_bytes(path.read_bytes().replace(b"ant/x_.png", b"ant/x\0.png"))
    assert problems(path) == {"ant/x\ufffd.png": "has a NUL character in its name"}


def test_links_and_devices(tmp_path):
    members = {}
    for kind, name in ((stat.S_IFLNK, "link.png"), (stat.S_IFIFO, "pipe.png")):
        info = zipfile.ZipInfo(f"ant/{name}")
        info.external_attr = (kind | 0o644) << 16
        members[info] = b"/etc/passwd"
    found = problems(archive(tmp_path / "a.zip", members))
    assert "is a link" in found["ant/link.png"]
    assert "not a regular file" in found["ant/pipe.png"]


def test_duplicates(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for name in ("ant/1.png", "ant/1.png", "ant/./1.png"):
                file.writestr(name, png(1))
    with opened(tmp_path / "a.zip") as found:
        assert len(found.problems) == 2
        assert len(found.members) == 1


def test_encrypted_and_unusual_packing(tmp_path):
    path = archive(tmp_path / "a.zip", {"ant/1.png": png(1)})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in problems(path)["ant/1.png"]
    path = archive(tmp_path / "b.zip", {"ant/1.png": png(1)}, zipfile.ZIP_LZMA)
    assert "unusual" in problems(path)["ant/1.png"]


def test_what_systems_leave_behind_is_ignored(tmp_path):
    extra = ["__MACOSX/ant/._1.png", ".DS_Store", "ant/.hidden.png", "ant/Thumbs.db", ".git/x.png"]
    path = archive(tmp_path / "a.zip", {**tree(1), **dict.fromkeys(extra, b"")})
    with opened(path) as found:
        assert not found.problems
        assert len(found.members) == 2


def test_a_bomb_is_stopped_by_what_comes_out(tmp_path):
    path = archive(tmp_path / "a.zip", {"ant/1.bmp": bytes(100 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with opened(path) as found, pytest.raises(UserError, match="unpacks to more than"):
        found.read(found.members[0])
    with (
        opened(path, max_member=1 << 20) as found,
        pytest.raises(UnreadableMemberError, match="1048576"),
    ):
        found.read(found.members[0])


def test_a_lying_size_does_not_pass(tmp_path):
    path = archive(tmp_path / "a.zip", {"ant/1.bmp": bytes(5000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    path.write_bytes(data)
    with opened(path) as found, pytest.raises(UnreadableMemberError, match="cannot be unpacked"):
        found.read(found.members[0])


def test_total_and_member_caps(tmp_path):
    path = archive(tmp_path / "a.zip", tree(3))
    with opened(path, max_bytes=1000) as found, pytest.raises(UserError, match="1000 bytes"):
        [found.read(member) for member in found.members]


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.data.ingest.safe_zip._SPARE_MEMBERS", 0)
    path = archive(tmp_path / "a.zip", tree(3))
    with pytest.raises(UserError, match="more than 5 files"):
        opened(path, max_members=5)


def test_a_damaged_member_is_unreadable(tmp_path):
    path = archive(tmp_path / "a.zip", {"ant/1.png": bytes(range(200))})
    path.write_bytes(path.read_bytes().replace(bytes(range(100)), bytes(100)))
    with opened(path) as found, pytest.raises(UnreadableMemberError, match="CRC"):
        found.read(found.members[0])


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (lambda d: b"", "empty"),
        (lambda d: d[:-30], "cut off"),
        (lambda d: b"hello" * 99, "not a zip"),
    ],
)
def test_what_is_no_zip(tmp_path, cut, words):
    path = archive(tmp_path / "a.zip", tree(1))
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(UserError, match=words) as fault:
        opened(path)
    assert fault.value.code == "dataset_invalid"


def test_random_damage_never_ends_in_another_exception(tmp_path):
    good = archive(tmp_path / "a.zip", tree(2)).read_bytes()
    chance = random.Random(1)
    for trial in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data) - 400, len(data))] = chance.randrange(256)
        path = tmp_path / "b.zip"
        path.write_bytes(data[: len(data) - trial % 7])
        try:
            with opened(path) as found:
                for member in found.members:
                    try:
                        found.read(member)
                    except UnreadableMemberError:
                        continue
        except UserError:
            continue
