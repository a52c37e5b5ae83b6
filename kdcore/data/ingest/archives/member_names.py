"""Names in archives: encodings, separators, and names that are refused or ignored."""

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable

_UTF8_FLAG = 0x800
_UNICODE_PATH_FIELD = 0x7075
"""Extra field with a UTF-8 name, by Info-ZIP."""
_DRIVE_LETTER = re.compile(r"[A-Za-z]:")
_LEGACY_ENCODINGS = (("shift_jis", "Shift-JIS"), ("gb2312", "GBK"))
_EAST_ASIAN = re.compile(r"[\u3000-\u30ff\u4e00-\u9fff]+")
_KANA = re.compile(r"[\u3040-\u30ff]")
_SYSTEM_FOLDERS = ("__MACOSX",)
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")


class MemberNames:
    """Decodes the names of a zip: UTF-8 where they are valid UTF-8, marked or not, else cp437.

    Where the other names look like an East Asian encoding, unmarked names that happen to be valid
    UTF-8 are decoded as cp437, too. ``warning`` says which names are not UTF-8.
    """

    def __init__(self, infos: Iterable[zipfile.ZipInfo]) -> None:
        unmarked = {raw for info in infos if (raw := _raw_name(info)) and not _unicode_path(info)}
        other = sorted(raw for raw in unmarked if _decode_utf8(raw) is None)
        encoding = _suspected_encoding(other) if other else None
        self._all_legacy = encoding is not None
        self.warning: tuple[str, list[str]] | None = None
        if other:
            names = sorted(unmarked) if encoding else other
            text = f"{len(names)} names in the archive are not UTF-8 and were read as cp437"
            if encoding:
                codec, title = encoding
                text += f"; they look like {title} ({other[0].decode(codec)})"
                text += ", so pack the archive again with UTF-8 names"
            self.warning = text, [raw.decode("cp437") for raw in names]

    def decode(self, info: zipfile.ZipInfo) -> str:
        """Return the name of a member."""
        # zipfile cuts a name at NUL, so the original name is used.
        raw = _raw_name(info)
        if raw is None:
            return info.orig_filename
        utf8 = None if self._all_legacy else _decode_utf8(raw)
        return _unicode_path(info) or utf8 or info.orig_filename


def path_parts_of(name: str) -> tuple[str, ...]:
    """Split the name of a member into folders and file name, in the normal form NFC.

    A backslash separates folders, too.
    """
    composed = unicodedata.normalize("NFC", name).replace("\\", "/")
    return tuple(part for part in composed.split("/") if part not in ("", "."))


def name_problem(name: str, parts: tuple[str, ...]) -> str | None:
    """Return what is wrong with the name of a member, or None."""
    if "\0" in name:
        return "has a NUL character in its name"
    if name.startswith(("/", "\\")) or _DRIVE_LETTER.match(name):
        return "has an absolute path; names must be relative"
    if ".." in parts:
        return "points outside of the archive with '..'"
    return None


def is_ignored(parts: tuple[str, ...]) -> bool:
    """Return whether it is a file of an operating system or an archiver, or hidden."""
    if parts[-1].lower() in _SYSTEM_FILES or any(part in _SYSTEM_FOLDERS for part in parts):
        return True
    return any(part.startswith(".") for part in parts)


def _raw_name(info: zipfile.ZipInfo) -> bytes | None:
    """Return the bytes of a name that is not marked as UTF-8; None for ASCII and marked names."""
    if info.flag_bits & _UTF8_FLAG or info.orig_filename.isascii():
        return None
    return info.orig_filename.encode("cp437")


def _decode_utf8(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """Return the UTF-8 name in a member's extra fields, if it belongs to the member's name."""
    extra, checksum = info.extra, struct.pack("<I", zlib.crc32(_raw_name(info) or b""))
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH_FIELD and field[1:5] == checksum:
            return _decode_utf8(field[5:])
    return None


def _suspected_encoding(raw_names: list[bytes]) -> tuple[str, str] | None:
    """Return the codec and title of an East Asian encoding that fits all names, or None."""
    for codec, title in _LEGACY_ENCODINGS:
        try:
            texts = [raw.decode(codec) for raw in raw_names]
        except UnicodeDecodeError:
            continue
        letters = "".join(char for text in texts for char in text if not char.isascii())
        is_japanese = codec != "shift_jis" or _KANA.search(letters)
        if _EAST_ASIAN.fullmatch(letters) and is_japanese:
            return codec, title
    return None
