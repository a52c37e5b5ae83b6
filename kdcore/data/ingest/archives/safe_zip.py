"""Read a zip of a user, with limits on the bytes that it unpacks to.

Nothing is extracted, and no name in the archive becomes a path for writing. Bad members are listed
in :attr:`Archive.problems`, so that one error can name all of them.
"""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.member_names import (
    MemberNames,
    is_ignored,
    name_problem,
    path_parts_of,
)
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail

EXTRA_MEMBERS = 100_000
"""Files beside the images that an archive may hold, such as labels and licenses."""
_CHUNK = 1 << 20
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Names of shards, which may be compressed."""
_ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
NESTED_MESSAGE = "is an archive in the archive; unpack it and add its files instead"


class UnreadableMemberError(Exception):
    """A member cannot be read; the message says why."""


class ArchiveMember(NamedTuple):
    """A regular file of the archive."""

    entry: Any
    """How its archive finds the file again."""
    path_parts: tuple[str, ...]
    """Folders and file name."""

    @property
    def name(self) -> str:
        """The path as shown to users."""
        return "/".join(self.path_parts)


class Archive:
    """An open zip; a ``with`` block closes it. Raises :class:`UserError` ``dataset_invalid``.

    ``max_bytes`` limits all unpacked bytes together, ``max_member_bytes`` those of :meth:`read`,
    ``max_members`` plus ``extra_members`` the number of files.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        max_members: int,
        max_member_bytes: int,
        extra_members: int = EXTRA_MEMBERS,
    ) -> None:
        self._zip = _open(path)
        self._max_member_bytes = max_member_bytes
        self.add_bytes = ByteLimit(path.stat().st_size, max_bytes).add
        self.problems: list[ErrorDetail] = []
        self.ignored: list[str] = []
        """Names of hidden files, and of files of operating systems."""
        if len(self._zip.infolist()) > max_members + extra_members:
            self._zip.close()
            raise UserError(
                "dataset_invalid", f"the archive has more than {max_members + extra_members} files"
            )
        names = MemberNames(self._zip.infolist())
        self.name_warning = names.warning
        """A warning, and the names that it is about: those that are not UTF-8."""
        self.members = self._regular_members(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, member: ArchiveMember, *, count_bytes: bool = True) -> bytes:
        """Read all bytes of a member; ``count_bytes=False`` for a second read.

        Sizes in the archive's headers are not trusted. Raises :class:`UnreadableMemberError` for a
        broken or too large member, :class:`UserError` if the archive exceeds its limit.
        """
        chunks = []
        size = 0
        with self.stream(member, count_bytes=count_bytes) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > self._max_member_bytes:
                    raise UnreadableMemberError(
                        f"unpacks to more than {self._max_member_bytes} bytes"
                    )
                chunks.append(chunk)
        return b"".join(chunks)

    def expect_reads(self, members: Sequence[ArchiveMember], *, heads: bool = False) -> None:
        """Do nothing: a local file needs no reads ahead."""

    def read_head(self, member: ArchiveMember) -> tuple[bytes, bool]:
        """Read all of the member, and return True: a zip cannot be read in parts faster."""
        return self.read(member), True

    def stream(self, member: ArchiveMember, *, count_bytes: bool = True) -> "MemberStream":
        """Open a member of any size as a stream; raises like :meth:`read`."""
        return MemberStream(self, member, count_bytes)

    def open_raw(self, member: ArchiveMember) -> IO[bytes]:
        """Open the member with zipfile, whose exceptions are not converted."""
        return self._zip.open(member.entry)

    def _regular_members(self, names: MemberNames) -> list[ArchiveMember]:
        members: list[ArchiveMember] = []
        seen: set[tuple[str, ...]] = set()
        for info in self._zip.infolist():
            name = names.decode(info)
            parts = path_parts_of(name)
            is_folder = name.endswith(("/", "\\"))
            problem = name_problem(name, parts) or _type_problem(info)
            if problem is None and not is_folder and parts in seen:
                problem = "is in the archive twice; keep one"
            if problem is not None:
                self.problems.append(error_detail(name, problem))
            elif not is_folder and parts:
                if is_ignored(parts):
                    self.ignored.append("/".join(parts))
                else:
                    members.append(ArchiveMember(info, parts))
            seen.add(parts)
        return members


class MemberStream:
    """The unpacked bytes of one member; a ``with`` block closes it."""

    def __init__(self, archive: Archive, member: ArchiveMember, count_bytes: bool) -> None:
        self._archive = archive
        self._count_bytes = count_bytes
        with _convert_errors():
            self._file = archive.open_raw(member)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Read up to ``size`` bytes; no bytes at the end."""
        with _convert_errors():
            data = self._file.read(size)
        if self._count_bytes:
            self._archive.add_bytes(len(data))
        return data


@contextlib.contextmanager
def _convert_errors() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UnreadableMemberError(f"cannot be unpacked: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise UnreadableMemberError(f"is compressed in an unsupported way: {error}") from error


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except MemoryError:
        raise
    except Exception as error:
        # Hostile bytes make zipfile raise struct.error, OverflowError and more.
        raise UserError(
            "dataset_invalid",
            "the zip archive is cut off or damaged: its directory at the end cannot be read",
            hint="upload the archive again, or pack it anew",
        ) from error


def _type_problem(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link; put the file itself into the archive"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a regular file"
    if info.flag_bits & 1:
        return "is encrypted; archive it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Decoders of other methods cannot be interrupted within a chunk.
        return "has an unsupported compression method; use deflate, the default of zip tools"
    return NESTED_MESSAGE if is_nested_archive(info.filename) else None


def is_nested_archive(name: str) -> bool:
    """Return whether the name is that of an archive that is not read inside another one."""
    return name.lower().endswith(_ARCHIVE_SUFFIXES) and not name.lower().endswith(TAR_SUFFIXES)
