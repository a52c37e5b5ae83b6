"""Read a tar of a user, as a stream or by its index, and report all damage.

Python's reader takes a broken header in the middle for the end of the archive, so everything after
it would be lost without an error. Here a tar must end with its end mark, followed by zeros alone.
"""

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.compression import ReadableStream, open_decompressed
from kdcore.data.ingest.archives.member_names import is_ignored, name_problem, path_parts_of
from kdcore.data.ingest.archives.safe_zip import (
    EXTRA_MEMBERS,
    TAR_SUFFIXES,
    ArchiveMember,
    UnreadableMemberError,
)
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail

_CHUNK = 1 << 20
_MAX_EXTENSION = 1 << 20
"""Largest extension of a header, such as a long name, which is read into memory at once."""
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class IndexedMember(NamedTuple):
    """A regular file of a tar, with the position of its content."""

    path_parts: tuple[str, ...]
    start: int
    size: int


class TarMember(NamedTuple):
    """A regular file of a tar, readable until the next member is requested."""

    path_parts: tuple[str, ...]
    """Folders and name, after those of the tar that contains it."""
    size: int
    stream: IO[bytes]

    def read(self) -> bytes:
        """Read all bytes. Raises :class:`UnreadableMemberError`; the iteration reports it, too."""
        try:
            return self.stream.read()
        except _ERRORS as error:
            raise UnreadableMemberError(f"cannot be read: {error}") from error


class DamagedTarError(Exception):
    """The rest of the tar cannot be read; the message says why."""


_ERRORS = (DamagedTarError, UnreadableMemberError, tarfile.TarError, zlib.error, EOFError, OSError)


def is_tar(start: bytes) -> bool:
    """Return whether the first 512 bytes of a file are the header of a tar, also of the year 1979.

    Only later tars have the magic ``ustar``, so the checksum of the header decides.
    """
    try:
        tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return start[257:262] == b"ustar"  # damaged, which reading it reports
    return True


def list_members(file: IO[bytes], problems: list[ErrorDetail]) -> Iterator[IndexedMember]:
    """Yield the files of an uncompressed tar without reading them, hidden ones among them.

    Unusable members and damage are added to ``problems`` by name.
    """
    for _, info, path_parts in _iter_files(file, "r:", (), problems):
        yield IndexedMember(path_parts, info.offset_data, info.size)


def iter_members(
    file: ReadableStream,
    tar_parts: tuple[str, ...],
    problems: list[ErrorDetail],
    add_bytes: Callable[[int], None],
) -> Iterator[TarMember]:
    """Yield the files of the tar ``tar_parts``, compressed or not, in their order.

    Unusable members and damage are added to ``problems`` by name; ``add_bytes`` counts bytes that
    are decompressed.
    """
    plain = open_decompressed(file, add_bytes)
    for tar, info, path_parts in _iter_files(plain, "r|", tar_parts, problems):
        stream = None if is_ignored(path_parts) else tar.extractfile(info)
        if stream is not None:
            yield TarMember(path_parts, info.size, stream)


def _iter_files(
    file: ReadableStream, mode: str, tar_parts: tuple[str, ...], problems: list[ErrorDetail]
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, tuple[str, ...]]]:
    """Yield the header and the path of every usable file."""
    headers = header_class()
    position, last = 0, "its beginning"
    try:
        # A stream needs only read(); typeshed requires all methods of a file.
        with tarfile.open(fileobj=file, mode=mode, tarinfo=headers) as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                # Otherwise tarfile keeps every header in memory.
                tar.members.clear()
                position, last = tar.offset, info.name
                parts = path_parts_of(info.name)
                problem = _member_problem(info, parts, nested=bool(tar_parts))
                if problem is not None:
                    problems.append(error_detail("/".join((*tar_parts, info.name)), problem))
                elif info.isreg() and parts:
                    yield tar, info, (*tar_parts, *parts)
            _check_end(tar, seen=headers.seen)
    except _ERRORS as error:
        detail = f"is damaged near byte {position}, after {last}: {error}"
        problems.append(error_detail("/".join(tar_parts) or "the tar archive", detail))


def _member_problem(info: tarfile.TarInfo, parts: tuple[str, ...], *, nested: bool) -> str | None:
    problem = name_problem(info.name, parts)
    if problem is None and not info.isdir() and (not info.isreg() or info.issparse()):
        return "is not a regular file; put the file itself into the archive"
    if problem is None and nested and parts and parts[-1].lower().endswith(TAR_SUFFIXES):
        return "is nested too deep: a tar in a tar in a tar; put its files into a shard"
    return problem


def _check_end(tar: tarfile.TarFile, *, seen: bool) -> None:
    if not seen:
        raise DamagedTarError("the next header cannot be read")
    # Only padding may follow the end mark.
    while rest := tar.fileobj.read(_CHUNK):
        if rest.strip(b"\0"):
            raise DamagedTarError("data follows its end mark")


class _Header(tarfile.TarInfo):
    """A header that raises :class:`DamagedTarError` where tarfile would end the archive."""

    seen = False
    """Whether the end mark was read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in typeshed
            cls.seen = True
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]  # not in typeshed
            raise DamagedTarError("it is cut off: its end mark is missing") from error
        except tarfile.HeaderError as error:
            raise DamagedTarError(f"a header is broken ({error})") from error
        if header.type in _EXTENSIONS and header.size > _MAX_EXTENSION:
            raise DamagedTarError(f"a header has an extension of {header.size} bytes")
        return header


def header_class() -> type[_Header]:
    """Return a new class for one tar, because tarfile takes a class and ``seen`` is its state."""
    return type("Header", (_Header,), {"seen": False})


class ByteRange(NamedTuple):
    """Where the content of a member is in its tar."""

    start: int
    size: int


class TarArchive:
    """An open tar without compression; a ``with`` block closes it.

    ``max_member_bytes`` limits :meth:`read`, ``max_members`` plus ``EXTRA_MEMBERS`` the number of
    files, ``max_bytes`` the decompressed bytes of compressed tars in it. Raises
    :class:`UserError` ``dataset_invalid``.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, max_members: int, max_member_bytes: int
    ) -> None:
        self._file = path.open("rb")
        self.add_bytes = ByteLimit(path.stat().st_size, max_bytes).add
        self._max_member_bytes = max_member_bytes
        self.problems: list[ErrorDetail] = []
        self.ignored: list[str] = []
        """Names of hidden files, and of files of operating systems."""
        self.members: list[ArchiveMember] = []
        try:
            self._add_members(max_members + EXTRA_MEMBERS)
        except BaseException:
            self._file.close()
            raise

    @property
    def name_warning(self) -> None:
        """No warning: names of a tar have no mark for their encoding."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _add_members(self, max_members: int) -> None:
        seen: set[tuple[str, ...]] = set()
        for path_parts, start, size in list_members(self._file, self.problems):
            if is_ignored(path_parts):
                self.ignored.append("/".join(path_parts))
                continue
            if path_parts in seen:
                problem = "is in the archive twice; keep one"
                self.problems.append(error_detail("/".join(path_parts), problem))
                continue
            seen.add(path_parts)
            if len(seen) > max_members:
                raise UserError("dataset_invalid", f"the archive has more than {max_members} files")
            self.members.append(ArchiveMember(ByteRange(start, size), path_parts))

    def read(self, member: ArchiveMember, *, count_bytes: bool = True) -> bytes:
        """Read all bytes of a member. Raises :class:`UnreadableMemberError`.

        ``count_bytes`` has no effect, because a tar is not compressed.
        """
        start, size = member.entry
        if size > self._max_member_bytes:
            problem = f"has {size} bytes; at most {self._max_member_bytes} are allowed"
            raise UnreadableMemberError(problem)
        data = os.pread(self._file.fileno(), size, start)
        if len(data) < size:
            raise UnreadableMemberError(f"is cut off: {size - len(data)} bytes are missing")
        return data

    def expect_reads(self, members: Sequence[ArchiveMember], *, heads: bool = False) -> None:
        """Do nothing: a local file needs no reads ahead."""

    def read_head(self, member: ArchiveMember) -> tuple[bytes, bool]:
        """Read all of the member, and return True."""
        return self.read(member), True

    def stream(self, member: ArchiveMember, *, count_bytes: bool = True) -> IO[bytes]:
        """Open a member of any size."""
        return io.BufferedReader(_Window(self._file.fileno(), member.entry))


class _Window(io.RawIOBase):
    """A range of an open file as a file."""

    def __init__(self, descriptor: int, byte_range: ByteRange) -> None:
        self._descriptor = descriptor
        self._range = byte_range
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._range.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        size = min(len(buffer), max(0, self._range.size - self._position))
        data = os.pread(self._descriptor, size, self._range.start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
