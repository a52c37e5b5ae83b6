"""SourceArchive: the files of a folder of the server or of an S3 prefix, read like an archive."""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kdcore.data.image_signature import has_image_name
from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.member_names import is_ignored, name_problem, path_parts_of
from kdcore.data.ingest.archives.open_archive import ArchiveLimits
from kdcore.data.ingest.archives.safe_zip import (
    EXTRA_MEMBERS,
    ArchiveMember,
    UnreadableMemberError,
    is_nested_archive,
)
from kdcore.data.ingest.archives.source_client import FileRange, RangeSequence, SourceClient
from kdcore.protocol.events import ErrorDetail
from kdcore.protocol.source_channel import MAX_READ
from kdcore.runtime.errors import UserError, error_detail

HEAD_BYTES = 64 << 10
"""Bytes at the beginning of a JPEG or PNG that nearly always have its header."""
_HEAD_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png")
_NESTED_MESSAGE = "is an archive beside other files; unpack it, or name it alone as the source"


class ListedEntry(NamedTuple):
    """Where a file of a source is in its list, and its size in bytes."""

    position: int
    size: int


class SourceArchive:
    """The listed files of a client, whose owner closes it.

    Raises :class:`UserError` ``dataset_invalid``. Its limits are those of a tar, which is not
    compressed, either.
    """

    def __init__(self, client: SourceClient, limits: ArchiveLimits) -> None:
        self._client = client
        self._limits = limits
        self._plan: _Plan | None = None
        self._position = 0
        self.problems: list[ErrorDetail] = []
        self.ignored: list[str] = []
        self.members: list[ArchiveMember] = []
        self._add_members()
        self.total_bytes: int = sum(member.entry.size for member in self.members)
        self.add_bytes = ByteLimit(self.total_bytes, limits.max_bytes).add
        self.single: ArchiveMember | None = self._single_file()
        """The one file that is the whole data set, such as an archive; None for other sources."""
        if self.single is None:
            self._refuse_nested_archives()

    @property
    def name_warning(self) -> None:
        """No warning: names of files have no mark for their encoding."""

    @property
    def list_digest(self) -> str:
        """Differs when a file was added, removed or changed."""
        return self._client.list_digest

    @property
    def progress(self) -> tuple[int, int]:
        """Position of the last file that was read in the list, and the number of files.

        Readers of shards read them in this order, in each pass.
        """
        return self._position, self._num_listed

    def _add_members(self) -> None:
        seen: set[tuple[str, ...]] = set()
        position = -1
        for position, file in enumerate(self._client.list_files()):
            parts = path_parts_of(file.name)
            if not parts or is_ignored(parts):
                self.ignored.append(file.name)
                continue
            problem = file.problem or name_problem(file.name, parts)
            if problem is None and parts in seen:
                problem = "has the name of another file of the source; keep one"
            if problem is not None:
                self.problems.append(error_detail(file.name, problem))
                continue
            seen.add(parts)
            if len(seen) > self._limits.max_members + EXTRA_MEMBERS:
                most = self._limits.max_members + EXTRA_MEMBERS
                raise UserError("dataset_invalid", f"the source has more than {most} files")
            self.members.append(ArchiveMember(ListedEntry(position, file.size), parts))
        self._num_listed = position + 1
        # Consoles of S3 store an empty object for each folder that a person creates.
        folders = {parts[:length] for parts in seen for length in range(1, len(parts))}
        self.members = [m for m in self.members if m.entry.size or m.path_parts not in folders]

    def _single_file(self) -> ArchiveMember | None:
        if len(self.members) != 1 or self.problems:
            return None
        (member,) = self.members
        is_image = has_image_name(member.path_parts[-1])
        return member if self._client.single or not is_image else None

    def _refuse_nested_archives(self) -> None:
        for member in self.members:
            if is_nested_archive(member.path_parts[-1]):
                self.problems.append(error_detail(member.name, _NESTED_MESSAGE))
        self.members = [m for m in self.members if not is_nested_archive(m.path_parts[-1])]

    def expect_reads(self, members: Sequence[ArchiveMember], *, heads: bool = False) -> None:
        """Request the files ahead that :meth:`read` (or :meth:`read_head`) gets in this order."""
        most = self._limits.max_member_bytes
        expected = [member for member in members if member.entry.size <= most]
        self._plan = _Plan(self._client, expected, heads=heads)

    def read(self, member: ArchiveMember, *, count_bytes: bool = True) -> bytes:
        """Read all bytes of a file. Raises :class:`UnreadableMemberError` for a too large one."""
        return self._read(member, heads=False)

    def read_head(self, member: ArchiveMember) -> tuple[bytes, bool]:
        """Read the beginning of a file; also return whether it is all of it."""
        return self._read(member, heads=True), _head_size(member) == member.entry.size

    def _read(self, member: ArchiveMember, *, heads: bool) -> bytes:
        self._position = member.entry.position
        size, most = member.entry.size, self._limits.max_member_bytes
        if size > most:
            raise UnreadableMemberError(f"has {size} bytes; at most {most} are allowed")
        if self._plan is not None and self._plan.is_next(member, heads=heads):
            return self._plan.read_next()
        return _Plan(self._client, [member], heads=heads).read_next()

    def stream(self, member: ArchiveMember, *, count_bytes: bool = True) -> io.BufferedReader:
        """Open a file of any size; it is seekable."""
        self._position = member.entry.position
        return io.BufferedReader(_SourceFile(self._client, member.entry))


class _Plan:
    """Files that are read in a known order, all of each or its head."""

    def __init__(
        self, client: SourceClient, members: Sequence[ArchiveMember], *, heads: bool
    ) -> None:
        self._heads = heads
        self._members = iter(members)
        self._next = next(self._members, None)
        ranges = (piece for member in members for piece in _pieces(member, heads=heads))
        self._sequence = RangeSequence(client, ranges)

    def is_next(self, member: ArchiveMember, *, heads: bool) -> bool:
        """Whether the file is the next one."""
        return self._next is not None and (member.entry, heads) == (self._next.entry, self._heads)

    def read_next(self) -> bytes:
        """Read the next file."""
        member, self._next = self._next, next(self._members, None)
        if member is None:
            raise LookupError("the plan has no further file")
        pieces = _pieces(member, heads=self._heads)
        return b"".join(self._sequence.read_next() or b"" for _ in pieces)


def _head_size(member: ArchiveMember) -> int:
    size: int = member.entry.size
    is_short = member.path_parts[-1].lower().endswith(_HEAD_SUFFIXES)
    return min(size, HEAD_BYTES) if is_short else size


def _pieces(member: ArchiveMember, *, heads: bool) -> Iterator[FileRange]:
    position, size = member.entry
    end = _head_size(member) if heads else size
    for start in range(0, end, MAX_READ):
        yield FileRange(position, start, min(MAX_READ, end - start))


class _SourceFile(io.RawIOBase):
    """A file of a source; after its first bytes it is read ahead."""

    def __init__(self, client: SourceClient, entry: ListedEntry) -> None:
        self._client = client
        self._entry = entry
        self._position = 0
        self._chunk = b""
        self._chunk_start = 0
        self._sequence: RangeSequence | None = None
        self._sequence_start = 0
        """Position of the next chunk of the sequence."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._entry.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position >= self._entry.size:
            return 0
        within = self._position - self._chunk_start
        if not 0 <= within < len(self._chunk):
            self._load_chunk()
            within = 0
        data = self._chunk[within : within + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _load_chunk(self) -> None:
        """Read the chunk at the position: a small one after a seek, else the next one."""
        start = self._position
        follows = start == self._chunk_start + len(self._chunk) and start > 0
        if self._sequence is None or self._sequence_start != start:
            ranges = self._ranges(start) if follows else iter([self._range(start, HEAD_BYTES)])
            self._sequence = RangeSequence(self._client, ranges)
        self._chunk = self._sequence.read_next() or b""
        self._chunk_start, self._sequence_start = start, start + len(self._chunk)
        if not follows:
            self._sequence = None

    def _ranges(self, start: int) -> Iterator[FileRange]:
        size = 4 * HEAD_BYTES
        while start < self._entry.size:
            yield self._range(start, size)
            start, size = start + size, min(4 * size, MAX_READ)

    def _range(self, start: int, size: int) -> FileRange:
        return FileRange(self._entry.position, start, min(size, self._entry.size - start))
