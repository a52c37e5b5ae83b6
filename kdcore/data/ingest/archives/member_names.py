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
_CJK = r"[\u3000-\u30ff\u4e00-\u9fff]+"
_EAST_ASIAN = (
    ("shift_jis", "Shift-JIS", re.compile(rf"(?=.*[\u3040-\u30ff]){_CJK}")),
    ("gb2312", "GBK", re.compile(_CJK)),
    ("euc_kr", "EUC-KR", re.compile(r"[\uac00-\ud7a3]+")),
    ("big5", "Big5", re.compile(_CJK)),
)
"""Codec, title, and what all letters beyond ASCII must be."""
_SINGLE_BYTE = (
    ("cp1251", "Windows-1251", re.compile(r"[\u0400-\u045f]+")),
    ("cp1252", "Windows-1252", re.compile(r"[\xc0-\xd6\xd8-\xf6\xf8-\xff]+")),
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SURROGATE = re.compile(r"[\udc80-\udcff]")
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
        self._all_legacy = bool(_suspected_texts(other, _EAST_ASIAN))
        self.warning: tuple[str, list[str]] | None = None
        if other:
            names = sorted(unmarked) if self._all_legacy else other
            text = f"{len(names)} names in the archive are not UTF-8 and were read as cp437"
            if guess := _describe_encodings(other):
                text += f"; they {guess}, so pack the archive again with UTF-8 names"
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


def encoding_problem(name: str) -> str | None:
    """Return what is wrong with a name of a tar whose bytes are not UTF-8, or None."""
    if not _SURROGATE.search(name):
        return None
    guess = _describe_encodings([name.encode("utf-8", "surrogateescape")])
    likely = f"; its bytes {guess}" if guess else ""
    return f"has a class name that is not UTF-8{likely}; pack the archive again with UTF-8 names"


def _describe_encodings(raw_names: list[bytes]) -> str:
    """Return the encodings that fit all names, with the first name in each; may be empty."""
    texts = _suspected_texts(raw_names, _EAST_ASIAN)
    texts = texts or _suspected_texts(raw_names, _SINGLE_BYTE)[:1]
    return "look like " + " or ".join(texts) if texts else ""


def _suspected_texts(
    raw_names: list[bytes], encodings: Iterable[tuple[str, str, re.Pattern[str]]]
) -> list[str]:
    texts: list[str] = []
    for codec, title, letters in encodings:
        try:
            names = [raw.decode(codec) for raw in raw_names]
        except UnicodeDecodeError:
            continue
        runs = [run for name in names for run in _NOT_ASCII.findall(name)]
        # Words in Cyrillic have no Latin letters between theirs.
        if title == "Windows-1251" and min(map(len, runs), default=0) < 3:
            continue
        foreign = "".join(runs)
        # Big5 has a character for most pairs of bytes.
        if letters.fullmatch(foreign) and not (title == "Big5" and texts):
            texts.append(f"{title} ({names[0]})")
        if texts and title == "Shift-JIS":
            break
    return texts
