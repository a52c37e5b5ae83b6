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

from kdcore.data.ingest.safe_zip import Archive, Member, Stream, Unreadable


class BadArray(Exception):  # noqa: N818 - becomes an item
    """An array cannot be used; the message says why."""


class Header(NamedTuple):
    """What the first bytes of an array say."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def header(archive: Archive, member: Member) -> Header:
    """The shape and type of an array. Raises BadArray."""
    with _told(), archive.stream(member, count=False) as stream:
        return _header(stream)


def load(archive: Archive, member: Member, max_bytes: int) -> npt.NDArray[Any]:
    """A whole array of at most ``max_bytes``. Raises BadArray."""
    with _told(), archive.stream(member) as stream:
        found = _header(stream)
        size = math.prod(found.shape) * found.dtype.itemsize
        if size > max_bytes:
            raise BadArray(f"has {size} bytes; at most {max_bytes} are read")
        return np.frombuffer(_exactly(stream, size), found.dtype).reshape(found.shape)


def rows(archive: Archive, member: Member) -> Iterator[npt.NDArray[Any]]:
    """The array's rows one after the other; only one is in memory. Raises BadArray."""
    with archive.stream(member) as stream:
        with _told():
            found = _header(stream)
        size = math.prod(found.shape[1:]) * found.dtype.itemsize
        for _ in range(found.shape[0]):
            with _told():
                data = _exactly(stream, size)
            yield np.frombuffer(data, found.dtype).reshape(found.shape[1:])


def _header(stream: Stream) -> Header:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream)
    else:
        raise BadArray(f"is of version {version} of its format; 1.0 and 2.0 are read")
    if dtype.hasobject:
        raise BadArray("holds Python objects, which are never unpickled; save plain numbers")
    if fortran and len(shape) > 1:
        raise BadArray("is in Fortran order; save numpy.ascontiguousarray of it")
    if any(side < 0 for side in shape):
        raise BadArray(f"has an impossible shape {shape}")
    return Header(shape, dtype)


def _exactly(stream: Stream, size: int) -> bytes:
    parts = []
    missing = size
    while missing > 0:
        part = stream.read(min(missing, 1 << 20))
        if not part:
            raise BadArray(f"is cut off: {missing} bytes are missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _told:  # noqa: N801 - reads as a verb in a with statement
    """Turn whatever numpy raises of a header into BadArray."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unreadable):
            raise BadArray(str(error)) from error
        # A header is Python source, parsed but never run; anything may be wrong with it.
        if isinstance(error, ValueError | TypeError | SyntaxError | KeyError | RecursionError):
            raise BadArray(f"is no array that numpy wrote: {error}") from error
