"""Read a tar of a user as a stream, once, and report all damage.

Python's reader takes a broken header in the middle for the end of the archive, so everything after
it would be lost without an error. Here a tar must end with its end mark, followed by zeros alone.
"""

import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple, Protocol

from kdcore.data.ingest.archives.member_names import is_ignored, name_problem, path_parts_of
from kdcore.data.ingest.archives.safe_zip import UnreadableMemberError
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import error_detail

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


class ReadableStream(Protocol):
    """Anything with ``read``."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102 - as of files


class TarMember(NamedTuple):
    """A regular file of a tar, readable until the next member is requested."""

    path_parts: tuple[str, ...]
    """Folders and name, after those of the tars that contain it."""
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


def iter_members(
    file: ReadableStream,
    path_parts: tuple[str, ...],
    problems: list[ErrorDetail],
    *,
    depth: int = 1,
) -> Iterator[TarMember]:
    """Yield the files of the tar ``path_parts`` and of the tars in it, ``depth`` levels down.

    Unusable members and damage are added to ``problems`` by name.
    """
    header_class = _header_class()
    position, last = 0, "its beginning"
    shard = "/".join(path_parts)
    try:
        # A stream needs only read(); typeshed requires all methods of a file.
        with tarfile.open(fileobj=file, mode="r|", tarinfo=header_class) as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                # Otherwise tarfile keeps every header in memory.
                tar.members.clear()
                position, last = tar.offset, info.name
                yield from _iter_member(tar, info, (path_parts, problems), depth)
            _check_end(tar, seen=header_class.seen)
    except _ERRORS as error:
        detail = f"is damaged near byte {position}, after {last}: {error}"
        problems.append(error_detail(shard or "the tar archive", detail))


def _iter_member(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    parent: tuple[tuple[str, ...], list[ErrorDetail]],
    depth: int,
) -> Iterator[TarMember]:
    parent_parts, problems = parent
    member_parts = path_parts_of(info.name)
    problem = name_problem(info.name, member_parts)
    if problem is None and not info.isdir() and (not info.isreg() or info.issparse()):
        problem = "is not a regular file; put the file itself into the archive"
    nested = bool(member_parts) and member_parts[-1].lower().endswith(".tar")
    if problem is None and nested and depth == 0:
        problem = "is nested too deep: a tar in a tar in a tar; put its files into a shard"
    if problem is not None:
        problems.append(error_detail("/".join((*parent_parts, info.name)), problem))
        return
    stream = (
        tar.extractfile(info)
        if info.isreg() and member_parts and not is_ignored(member_parts)
        else None
    )
    if stream is None:
        return
    if nested:
        yield from iter_members(stream, (*parent_parts, *member_parts), problems, depth=depth - 1)
    else:
        yield TarMember((*parent_parts, *member_parts), info.size, stream)


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


def _header_class() -> type[_Header]:
    """Return a new class for one tar, because tarfile takes a class and ``seen`` is its state."""
    return type("Header", (_Header,), {"seen": False})
