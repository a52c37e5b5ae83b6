"""Read ``.npy`` files of an archive row by row. The bytes may be hostile.

Nothing is unpickled, and sizes in a header are compared with the limits before memory is allocated.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as numpy_format

from kdcore.data.ingest.archives.compression import ReadableStream
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_zip import ArchiveMember, UnreadableMemberError

_CHUNK = 1 << 20
_MAX_HEADER_BYTES = 64 << 10


class InvalidArrayError(Exception):
    """An array is unusable; the message says why."""


class ArrayHeader(NamedTuple):
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class ArrayFile:
    """One array of an archive, which is read from its first row to its last.

    Raises :class:`InvalidArrayError` for a header that cannot be used.
    """

    def __init__(self, archive: MemberArchive, member: ArchiveMember, name: str) -> None:
        self._archive = archive
        self._member = member
        self.name = name
        """Folders and name without ``.npy``, as ``numpy.load`` shows it."""
        with _convert_errors(), archive.stream(member, count_bytes=False) as stream:
            self.header = _parse_header(stream)

    @property
    def num_rows(self) -> int:
        """Number of rows, the first axis; 0 for a single number."""
        return self.header.shape[0] if self.header.shape else 0

    def read(self, max_bytes: int) -> npt.NDArray[Any]:
        """Read all of an array of at most ``max_bytes``."""
        size = math.prod(self.header.shape) * self.header.dtype.itemsize
        if size > max_bytes:
            raise InvalidArrayError(f"has {size} bytes; at most {max_bytes} are allowed")
        with _convert_errors(), self._archive.stream(self._member) as stream:
            _parse_header(stream)
            data = _read_exactly(stream, size)
            return np.frombuffer(data, self.header.dtype).reshape(self.header.shape)

    def iter_rows(self, *, count_bytes: bool = True) -> Iterator[npt.NDArray[Any]]:
        """Yield the rows; one row is in memory at a time. ``count_bytes=False`` reads again."""
        with self._archive.stream(self._member, count_bytes=count_bytes) as stream:
            with _convert_errors():
                _parse_header(stream)
            shape, dtype = self.header
            size = math.prod(shape[1:]) * dtype.itemsize
            for _ in range(self.num_rows):
                with _convert_errors():
                    row = np.frombuffer(_read_exactly(stream, size), dtype).reshape(shape[1:])
                yield row


class _HeaderStream:
    """The first bytes of a stream, as many as a header has, so that no size in it is trusted."""

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream
        self._remaining = _MAX_HEADER_BYTES

    def read(self, size: int, /) -> bytes:
        if size > self._remaining:
            raise InvalidArrayError(f"has a header of more than {_MAX_HEADER_BYTES} bytes")
        self._remaining -= size
        return self._stream.read(size)


def _parse_header(file: ReadableStream) -> ArrayHeader:
    stream: Any = _HeaderStream(file)  # numpy needs only read()
    version = numpy_format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = numpy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = numpy_format.read_array_header_2_0(stream)
    else:
        raise InvalidArrayError(
            f"has version {version} of numpy's format; 1.0 and 2.0 are supported"
        )
    if dtype.hasobject:
        raise InvalidArrayError(
            "contains Python objects, which are never unpickled; save plain numbers, or text with "
            "labels.astype(str)"
        )
    if dtype.names is not None:
        raise InvalidArrayError("is a structured array; save one array of numbers for each field")
    if fortran and len(shape) > 1:
        raise InvalidArrayError("is in Fortran order; save numpy.ascontiguousarray(array)")
    if any(side < 0 for side in shape):
        raise InvalidArrayError(f"has an impossible shape {shape}")
    return ArrayHeader(shape, dtype)


def _read_exactly(stream: ReadableStream, size: int) -> bytes:
    parts = []
    missing = size
    while missing > 0:
        part = stream.read(min(missing, _CHUNK))
        if not part:
            raise InvalidArrayError(f"is cut off: {missing} bytes are missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _convert_errors() -> Iterator[None]:
    """Convert numpy's and the archive's exceptions to :class:`InvalidArrayError`."""
    try:
        yield
    except UnreadableMemberError as error:
        raise InvalidArrayError(str(error)) from error
    except (ValueError, TypeError, SyntaxError, KeyError, RecursionError) as error:
        # A header is a Python literal, so hostile bytes can cause any of these.
        raise InvalidArrayError(f"is not an array in numpy's format: {error}") from error
