"""One ``.npy`` member of a stranger's archive: its header, all of it, or row by row.

Nothing is unpickled, and no size that a header declares is believed before it is compared with what
may come. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from kdcore.data.ingest.safe_zip import Archive, ArchiveMember, MemberStream, UnreadableMemberError


class InvalidArrayError(Exception):
    """An array cannot be used; the message says why."""


class ArrayHeader(NamedTuple):
    """What the first bytes of an array say."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_header(archive: Archive, member: ArchiveMember) -> ArrayHeader:
    """The shape and type of an array. Raises BadArray."""
    with _convert_errors(), archive.stream(member, count_bytes=False) as stream:
        return _parse_header(stream)


def read_array(archive: Archive, member: ArchiveMember, max_bytes: int) -> npt.NDArray[Any]:
    """A whole array of at most ``max_bytes``. Raises BadArray."""
    with _convert_errors(), archive.stream(member) as stream:
        array_header = _parse_header(stream)
        size = math.prod(array_header.shape) * array_header.dtype.itemsize
        if size > max_bytes:
            raise InvalidArrayError(f"has {size} bytes; at most {max_bytes} are read")
        return np.frombuffer(_read_exactly(stream, size), array_header.dtype).reshape(
            array_header.shape
        )


def iter_rows(archive: Archive, member: ArchiveMember) -> Iterator[npt.NDArray[Any]]:
    """The array's rows one after the other; only one is in memory. Raises BadArray."""
    with archive.stream(member) as stream:
        with _convert_errors():
            array_header = _parse_header(stream)
        size = math.prod(array_header.shape[1:]) * array_header.dtype.itemsize
        for _ in range(array_header.shape[0]):
            with _convert_errors():
                data = _read_exactly(stream, size)
            yield np.frombuffer(data, array_header.dtype).reshape(array_header.shape[1:])


def _parse_header(stream: MemberStream) -> ArrayHeader:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream)
    else:
        raise InvalidArrayError(f"is of version {version} of its format; 1.0 and 2.0 are read")
    if dtype.hasobject:
        raise InvalidArrayError(
            "holds Python objects, which are never unpickled; save plain numbers"
        )
    if fortran and len(shape) > 1:
        raise InvalidArrayError("is in Fortran order; save numpy.ascontiguousarray of it")
    if any(side < 0 for side in shape):
        raise InvalidArrayError(f"has an impossible shape {shape}")
    return ArrayHeader(shape, dtype)


def _read_exactly(stream: MemberStream, size: int) -> bytes:
    parts = []
    missing = size
    while missing > 0:
        part = stream.read(min(missing, 1 << 20))
        if not part:
            raise InvalidArrayError(f"is cut off: {missing} bytes are missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _convert_errors:  # noqa: N801 - reads as a verb in a with statement
    """Turn whatever numpy raises of a header into BadArray."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnreadableMemberError):
            raise InvalidArrayError(str(error)) from error
        # A header is Python source, parsed but never run; anything may be wrong with it.
        if isinstance(error, ValueError | TypeError | SyntaxError | KeyError | RecursionError):
            raise InvalidArrayError(f"is no array that numpy wrote: {error}") from error
