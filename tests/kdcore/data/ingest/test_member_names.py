"""Names in archives: encodings, normal forms, separators, and files that are not images."""

import struct
import unicodedata
import zipfile
import zlib

import pytest

from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    write_upload,
)
from tests.kdcore.data.ingest.test_split_names import read_summary
from tests.kdcore.uploads import image_tree, png, write_archive


def write_raw_names(workdir, members):
    """A zip whose names are these bytes, without the flag for UTF-8."""
    path = workdir.path / "in.zip"
    infos = {}
    for position, (name, data) in enumerate(members.items()):
        placeholder = f"{position:06d}".ljust(len(name), "_")
        infos[placeholder] = (name, data)
    write_archive(path, {placeholder: data for placeholder, (_, data) in infos.items()})
    content = path.read_bytes()
    for placeholder, (name, _) in infos.items():
        content = content.replace(placeholder.encode(), name)
    path.write_bytes(content)
    return path


def tree_of(*class_names, encoding="utf-8"):
    return {
        f"{name}/{i:02d}.png".encode(encoding): png(100 * k + i)
        for k, name in enumerate(class_names)
        for i in range(8)
    }


def test_utf8_names_need_no_flag(workdir):
    data = ingest_upload(workdir, write_raw_names(workdir, tree_of("café", "日本")))
    assert data.info.classes == ("café", "日本")
    assert read_summary(workdir)["warnings"] == []


@pytest.mark.parametrize(
    ("encoding", "names", "words"),
    [
        ("gbk", ("猫", "狗"), "they look like GBK (狗/00.png)"),
        ("shift_jis", ("ねこ", "犬のえ"), "they look like Shift-JIS (ねこ/00.png)"),
        ("euc_kr", ("고양이", "개"), "EUC-KR (개/00.png)"),
        ("big5", ("貓咪", "狗"), "they look like Big5 ("),
        ("cp1251", ("кошка", "собака"), "they look like Windows-1251 (кошка/00.png)"),
        ("cp1252", ("cafè", "fürst"), "they look like Windows-1252 (cafè/00.png)"),
        ("cp437", ("café", "für"), "were read as cp437: café/00.png"),
    ],
)
def test_other_encodings_are_a_warning_with_the_names(workdir, encoding, names, words):
    members = tree_of(*names, encoding=encoding)
    data = ingest_upload(workdir, write_raw_names(workdir, members))
    assert data.info.classes == tuple(sorted(n.encode(encoding).decode("cp437") for n in names))
    (warning,) = read_summary(workdir)["warnings"]
    assert warning.startswith("16 names in the archive are not UTF-8")
    assert words in warning
    if encoding == "cp437":
        assert "look like" not in warning


@pytest.mark.parametrize(
    ("encoding", "name", "words"),
    [
        ("gbk", "狗", "is not UTF-8; its bytes look like GBK (狗)"),
        ("latin-1", "caf\xe9", "is not UTF-8; its bytes look like Windows-1252 (caf\xe9)"),
    ],
)
def test_a_class_folder_of_a_tar_that_is_not_utf8_is_refused(workdir, encoding, name, words):
    raw = name.encode(encoding).decode("utf-8", "surrogateescape")
    path = write_upload(workdir, encode_shard(image_tree(3, ("ant", raw))))
    details = assert_upload_refused(workdir, path)
    assert len(details) == 3
    assert all(words in detail for detail in details.values())


def test_unicode_name_of_an_extra_field_is_read(workdir):
    members = {}
    for name, data in image_tree(6).items():
        raw = name.replace("ant", "\x82").encode("cp437", "replace")
        info = zipfile.ZipInfo(name.replace("ant", "é"))
        fields = b"\1" + struct.pack("<I", zlib.crc32(raw)) + name.replace("ant", "été").encode()
        info.extra = struct.pack("<HH", 0x7075, len(fields)) + fields
        members[info] = data
    path = write_archive(workdir.path / "in.zip", members)
    assert ingest_upload(workdir, path).info.classes == ("bee", "é")


def test_normal_forms_of_one_name_are_one_class(workdir):
    members = {}
    for split, form in (("train", "NFD"), ("val", "NFC"), ("test", "NFD")):
        for name, data in image_tree(4, ("café", "dog"), prefix=f"{split}/").items():
            members[unicodedata.normalize(form, name)] = data
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert data.info.classes == ("café", "dog")
    assert data.info.splits["val"].count == 8


def test_backslashes_separate_folders(workdir):
    members = image_tree(4, prefix="train/") | image_tree(2, prefix="test/")
    names = {name.replace("/", "\\"): data for name, data in members.items()}
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", names))
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["test"].count == 4


def test_ignored_files_are_counted_by_reason(workdir):
    system = [
        "__MACOSX/ant/._0.png",
        "ant/.DS_Store",
        "ant/.ipynb_checkpoints/0.png",
        "desktop.ini",
    ]
    others = {"README.md": b"# Pets", "labels.csv": b"a,b"}
    members = image_tree(6) | dict.fromkeys(system, b"x") | others
    ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert read_summary(workdir)["ignored"] == [
        {
            "reason": "is hidden, or belongs to an operating system",
            "count": 4,
            "examples": system,
        },
        {"reason": "is not an image", "count": 2, "examples": list(others)},
    ]
