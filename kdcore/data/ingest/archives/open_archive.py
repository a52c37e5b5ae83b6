"""Open an upload as an archive: a zip, or a tar that is not compressed.

The error for any other file says what it is by its content.
"""

import re
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from kdcore.data.ingest.archives.compression import ReadableStream
from kdcore.data.ingest.archives.safe_tar import TarArchive, is_tar
from kdcore.data.ingest.archives.safe_zip import Archive, ArchiveMember
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError

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

    def expect_reads(self, members: Sequence[ArchiveMember], *, heads: bool = False) -> None:
        """Announce the order of the next calls of :meth:`read`, or of :meth:`read_head`."""
        ...

    def read_head(self, member: ArchiveMember) -> tuple[bytes, bool]:
        """Read the beginning of a member for its header; return whether it is all of it, too."""
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


READ_FORMATS = "zip, tar (also gzip, zstd, bzip2 or xz), .npz and Parquet are read"
_PACK = "unpack it, and pack the files again as zip or tar.gz"
_SAVE_ARRAYS = 'save the arrays with numpy.savez("data.npz", images=…, labels=…)'
_START_BYTES = 4096


class _ContentType(NamedTuple):
    """A kind of file that is refused."""

    pattern: re.Pattern[bytes]
    """Matches the file's first bytes."""
    name: str
    fix: str


def _type(pattern: bytes, name: str, fix: str) -> _ContentType:
    return _ContentType(re.compile(pattern, re.DOTALL), name, fix)


_TYPES = (
    _type(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACK),
    _type(rb"Rar!\x1a\x07", "a RAR archive", _PACK),
    _type(rb"\x04\x22\x4d\x18", "an LZ4 file", _PACK),
    _type(rb"\x1f[\x9d\xa0]", "a file of compress (.Z)", _PACK),
    _type(rb"LZIP", "an lzip file", _PACK),
    _type(rb"!<arch>\n", "an ar archive", _PACK),
    _type(rb"07070[127]", "a cpio archive", _PACK),
    _type(rb"MSCF", "a cabinet archive", _PACK),
    _type(rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _SAVE_ARRAYS),
    _type(rb"MATLAB 5\.0 MAT", "a MATLAB file", _SAVE_ARRAYS),
    _type(rb"\x00\x00[\x08-\x0e][\x01-\x04]", "an IDX file, as MNIST has it", _SAVE_ARRAYS),
    _type(
        rb"\x93NUMPY",
        "one array of numpy (.npy)",
        "images and labels are two arrays: pack both .npy files into one zip, or " + _SAVE_ARRAYS,
    ),
    _type(rb"\x80[\x02-\x05]", "a pickle, which is never opened", _SAVE_ARRAYS),
    _type(
        rb"ARROW1|\xff{4}..\0\0\x10\0", "an Arrow file", 'write Parquet: to_parquet("data.parquet")'
    ),
    _type(
        rb".{6}\0\0\{",
        "a safetensors file",
        "a data set has images; upload weights as a model, with POST /v1/models",
    ),
    _type(
        rb"version https://git-lfs",
        "a pointer of Git LFS and not the file itself",
        "fetch the file with `git lfs pull`, and upload it",
    ),
    _type(
        rb"(?i:\s*<(?:!doctype|html|\?xml))",
        "a web page",
        "download the file itself, and upload it",
    ),
    _type(
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0|RIFF.{4}WEBP|II\*\0|MM\0\*|.{4}ftyp(avif|heic|mif1)",
        "one image",
        "pack the images into a zip, in class folders",
    ),
    _type(rb"%PDF", "a PDF document", "pack the images into a zip, in class folders"),
)


def unknown_upload_error(path: Path) -> UserError:
    """Return the error for an upload in no format that is read: what it is, and what to do."""
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        return UserError("dataset_invalid", f"the upload cannot be read: {error.strerror}")
    if not start:
        return UserError(
            "dataset_invalid", "the upload is empty", hint="upload an archive of labeled images"
        )
    content = next((kind for kind in _TYPES if kind.pattern.match(start)), None)
    if content is None:
        content = _text_type(start) or _unknown_type(start)
    return UserError(
        "dataset_invalid", f"the upload is {content.name}; {READ_FORMATS}", hint=content.fix
    )


def _text_type(start: bytes) -> _ContentType | None:
    """Return the type of a text file by its first line."""
    try:
        line = start[: start.rfind(b"\n") + 1 or len(start)].decode("utf-8-sig").partition("\n")[0]
    except UnicodeDecodeError:
        return None
    if "\0" in line:
        return None
    if line.lstrip().startswith(("{", "[")):
        return _type(b"", "a JSON text", "pack it and its images into one zip")
    if any(separator in line for separator in ",;\t"):
        fix = "pack it and its images into one zip: a table has the columns path and label"
        return _type(b"", "a table (CSV) without its images", fix)
    return _type(b"", "a text file", "pack the images into a zip, in class folders")


def _unknown_type(start: bytes) -> _ContentType:
    return _type(b"", f"of an unknown type: it begins with the bytes {start[:8].hex(' ')}", _PACK)
