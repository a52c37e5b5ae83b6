"""A stranger's zip: what may be read of it, and its bytes, counted while they come out.

Nothing is ever extracted and no name of the archive becomes a path for writing. A bad member is one
item of :attr:`Archive.problems` and does not end the check, so that all of them are told at once.
"""

import contextlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from kdcore.protocol.events import Item
from kdcore.runtime.errors import UserFault, item

_SPARE_MEMBERS = 100_000
_CHUNK = 1 << 20
_MAX_RATIO = 200
"""Images are compressed already; only a bomb unpacks to hundreds of times its size."""
_RATIO_FROM = 64 << 20
"""Bytes below which the ratio does not matter: small archives of flat bitmaps are honest."""
_NESTED = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
NESTED = "is an archive in the archive; put its files there instead"
_DRIVE = re.compile(r"[A-Za-z]:")
_REASONS = "upload a zip of images in class folders: <class>/*.png or train/<class>/*.png"


class Unreadable(Exception):  # noqa: N818 - the caller makes an item of it
    """One member cannot be read; the message says why."""


class Member(NamedTuple):
    """A regular file of the archive."""

    info: zipfile.ZipInfo
    parts: tuple[str, ...]
    """Its folders and its name."""


class Archive:
    """An open zip. ``with`` closes it."""

    def __init__(self, path: Path, *, max_bytes: int, max_members: int, max_member: int) -> None:
        self._zip = _open(path)
        self._max_member = max_member
        ratio_cap = max(_RATIO_FROM, _MAX_RATIO * path.stat().st_size)
        self._max_bytes = min(max_bytes, ratio_cap)
        self._count = 0
        self.problems: list[Item] = []
        if len(self._zip.infolist()) > max_members + _SPARE_MEMBERS:
            self._zip.close()
            raise UserFault(
                "dataset_invalid", f"the archive has more than {max_members + _SPARE_MEMBERS} files"
            )
        self.members = self._regular()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def read(self, member: Member, *, count: bool = True) -> bytes:
        """All bytes of a member. ``count=False``: they were counted when first read.

        Raises Unreadable for this member alone, and UserFault when the archive as a whole
        unpacks to more than it may; sizes that the archive declares are not believed.
        """
        chunks = []
        size = 0
        with self.stream(member, count=count) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > self._max_member:
                    raise Unreadable(f"unpacks to more than {self._max_member} bytes")
                chunks.append(chunk)
        return b"".join(chunks)

    def stream(self, member: Member, *, count: bool = True) -> "Stream":
        """A member of any size, to be read forwards; raises as :meth:`read` does."""
        return Stream(self, member, count)

    def open_raw(self, member: Member) -> IO[bytes]:
        """The member as zipfile reads it; every error of it is still raw."""
        return self._zip.open(member.info)

    def note(self, size: int) -> None:
        """Count bytes that came out. Raises UserFault when they are too many."""
        self._count += size
        if self._count > self._max_bytes:
            raise UserFault(
                "dataset_invalid",
                f"the archive unpacks to more than {self._max_bytes} bytes, which is too much for "
                "its size or for this service",
                hint="send fewer or smaller images, or several data sets",
            )

    def _regular(self) -> list[Member]:
        members: list[Member] = []
        seen: set[tuple[str, ...]] = set()
        for info in self._zip.infolist():
            # zipfile cuts a name at NUL; the original is what the archive says.
            name = info.orig_filename
            parts = parts_of(name)
            problem = name_problem(name, parts) or _kind_problem(info)
            if problem is None and not name.endswith("/") and parts in seen:
                problem = "is in the archive twice; keep one"
            if problem is not None:
                self.problems.append(item(name, problem))
            elif not info.is_dir() and parts and not ignored(parts):
                members.append(Member(info, parts))
            seen.add(parts)
        return members


class Stream:
    """One member of an archive while it is unpacked. ``with`` closes it."""

    def __init__(self, archive: Archive, member: Member, count: bool) -> None:
        self._archive = archive
        self._count = count
        with _told():
            self._file = archive.open_raw(member)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        with _told():
            data = self._file.read(size)
        if self._count:
            self._archive.note(len(data))
        return data


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise Unreadable(f"cannot be unpacked: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise Unreadable(f"is packed in a way that is not read here: {error}") from error


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except MemoryError:
        raise
    except Exception as error:
        # zipfile raises nearly anything on hostile bytes: struct.error, OverflowError, …
        raise UserFault("dataset_invalid", _not_a_zip(path), hint=_REASONS) from error


def _not_a_zip(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        return f"the upload cannot be read: {error.strerror}"
    if not start:
        return "the upload is empty; a zip archive of images was expected"
    if start == b"PK\x03\x04":
        return "the zip archive is cut off or damaged: its directory at the end cannot be read"
    return "the upload is not a zip archive"


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the name in a member's name."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def name_problem(name: str, parts: tuple[str, ...]) -> str | None:
    """What is wrong with a member's name, as it stands and in its parts."""
    if "\0" in name:
        return "has a NUL character in its name"
    if "\\" in name:
        return "has a backslash in its name; folders are separated by /"
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute path; names must be relative"
    if ".." in parts:
        return "points outside of the archive with '..'"
    return None


def _kind_problem(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link; put the file itself into the archive"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a regular file"
    if info.flag_bits & 1:
        return "is encrypted; archive it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The decoders of the other kinds cannot be stopped within a chunk.
        return "is packed in an unusual way; use deflate, as zip tools do by default"
    if info.filename.lower().endswith(_NESTED):
        return NESTED
    return None


def ignored(parts: tuple[str, ...]) -> bool:
    """Whether a file system or an archiver left it behind, unasked."""
    if "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "desktop.ini"):
        return True
    return any(part.startswith(".") for part in parts)
