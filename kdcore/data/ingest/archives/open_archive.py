"""Open an upload as an archive: a zip, or a tar that is not compressed."""

import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from kdcore.data.ingest.archives.compression import ReadableStream
from kdcore.data.ingest.archives.content_type import unknown_upload_error
from kdcore.data.ingest.archives.safe_tar import is_tar
from kdcore.data.ingest.archives.safe_zip import Archive, ArchiveMember
from kdcore.data.ingest.archives.tar_archive import TarArchive
from kdcore.protocol.events import ErrorDetail

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


class ArchiveLimits(NamedTuple):
    """What an archive may hold at most."""

    max_bytes: int
    """All unpacked bytes."""
    max_members: int
    max_member_bytes: int
    """Bytes of a member that is read at once."""


class MemberArchive(Protocol):
    """An archive whose members are read by name, in any order."""

    members: list[ArchiveMember]
    problems: list[ErrorDetail]
    """Unusable members, by name."""
    ignored: list[str]
    """Names of hidden files, and of files of operating systems."""

    @property
    def name_warning(self) -> tuple[str, list[str]] | None:
        """A warning, and the names that it is about: those that are not UTF-8."""
        ...

    def read(self, member: ArchiveMember, *, count_bytes: bool = True) -> bytes:
        """Read all bytes; ``count_bytes=False`` for a second read."""
        ...

    def stream(
        self, member: ArchiveMember, *, count_bytes: bool = True
    ) -> AbstractContextManager[ReadableStream]:
        """Open a member of any size."""
        ...

    def add_bytes(self, size: int, /) -> None:
        """Count unpacked bytes. Raises :class:`UserError` above the limit."""
        ...


def open_archive(path: Path, limits: ArchiveLimits) -> AbstractContextManager[MemberArchive]:
    """Open a zip or a tar. Raises :class:`UserError` ``dataset_invalid`` for any other file.

    The error says what the file is.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        start = b""
    if start.startswith(_ZIP_MAGIC):
        return Archive(path, **limits._asdict())
    if is_tar(start):
        return TarArchive(path, **limits._asdict())
    if zipfile.is_zipfile(path):  # after other bytes, such as those of a program that unpacks it
        return Archive(path, **limits._asdict())
    raise unknown_upload_error(path)
