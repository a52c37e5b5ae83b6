"""A tar of a user, indexed once and then read in any order, like a zip."""

import io
import os
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.member_names import is_ignored
from kdcore.data.ingest.archives.safe_tar import list_members
from kdcore.data.ingest.archives.safe_zip import (
    EXTRA_MEMBERS,
    ArchiveMember,
    UnreadableMemberError,
)
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail


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
