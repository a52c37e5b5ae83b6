"""Decompress a stream of gzip, zstd, bzip2 or xz piece by piece, in bounded memory."""

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.safe_zip import UnreadableMemberError
from kdcore.runtime.errors import RunCancelledError, UserError

_CHUNK = 1 << 20
_FRAME_CHUNK = 64 << 10
"""Packed bytes that a decompressor gets at a time; it copies those behind the end of a frame."""
MAX_EMPTY_FRAMES = 10_000
_MAGIC_BYTES = 6
_MAX_WINDOW_LOG = 27
"""Logarithm of the largest window of zstd, 128 MiB: the largest without its option ``--long``."""
_MAX_XZ_BYTES = 256 << 20
"""Memory of the decoder of xz; its strongest preset takes 65 MiB."""


class ReadableStream(Protocol):
    """Anything with ``read``."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102 - as of files


class Codec(NamedTuple):
    """A compressed format, recognized by its first bytes."""

    name: str
    magic: bytes
    open: Callable[[Any], ReadableStream]


class DecompressedStream:
    """The decompressed bytes of a stream; ``add_bytes`` counts them and limits their number."""

    def __init__(
        self, file: ReadableStream, codec: Codec, add_bytes: Callable[[int], None]
    ) -> None:
        self._codec = codec
        self._stream = codec.open(file)
        self._add_bytes = add_bytes

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Read up to ``size`` bytes; no bytes at the end. Raises :class:`UnreadableMemberError`."""
        try:
            data = self._stream.read(size)
        except (MemoryError, UnreadableMemberError, UserError, RunCancelledError):
            raise
        except Exception as error:
            # Hostile bytes make each decoder raise errors of its own.
            problem = f"cannot be unpacked with {self._codec.name}: {error}"
            raise UnreadableMemberError(problem) from error
        self._add_bytes(len(data))
        return data


class _PeekedStream:
    """A stream whose first bytes were read already."""

    def __init__(self, start: bytes, file: ReadableStream) -> None:
        self._start = start
        self._file = file

    def read(self, size: int, /) -> bytes:
        if not self._start:
            return self._file.read(size)
        data, self._start = self._start[:size], self._start[size:]
        return data


class CancellableStream:
    """A stream that calls ``check_cancelled`` before each read."""

    def __init__(self, file: ReadableStream, check_cancelled: Callable[[], None]) -> None:
        self._file = file
        self._check_cancelled = check_cancelled

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; no bytes at the end."""
        self._check_cancelled()
        return self._file.read(size)


class _FrameStream:
    """Reads compressed frames one after the other, with a decompressor for each of them."""

    def __init__(self, file: ReadableStream, new_decompressor: Callable[[], Any]) -> None:
        self._file = file
        self._new_decompressor = new_decompressor
        self._decompressor = new_decompressor()
        self._is_empty_frame = True
        self._num_empty_frames = 0

    def read(self, size: int, /) -> bytes:
        while True:
            packed = b""
            if self._decompressor.eof:
                packed = self._read_next_frame()
                if not packed:
                    return b""
                self._decompressor = self._new_decompressor()
            elif self._decompressor.needs_input:
                packed = self._file.read(_FRAME_CHUNK)
                if not packed:
                    raise EOFError("it is cut off")
            data: bytes = self._decompressor.decompress(packed, size)
            if data:
                self._is_empty_frame = False
                return data

    def _read_next_frame(self) -> bytes:
        """Return the first bytes of the next frame; padding of zeros may precede it."""
        self._num_empty_frames += self._is_empty_frame
        if self._num_empty_frames > MAX_EMPTY_FRAMES:
            raise ValueError(f"it has more than {MAX_EMPTY_FRAMES} empty frames")
        self._is_empty_frame = True
        packed: bytes = self._decompressor.unused_data or self._file.read(_FRAME_CHUNK)
        while packed and not packed.strip(b"\0"):
            packed = self._file.read(_FRAME_CHUNK)
        return packed.lstrip(b"\0")


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_MAX_XZ_BYTES)


def _new_zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    )


CODECS = (
    Codec("gzip", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    Codec("zstd", b"\x28\xb5\x2f\xfd", lambda file: _FrameStream(file, _new_zstd)),
    Codec("bzip2", b"BZh", lambda file: _FrameStream(file, bz2.BZ2Decompressor)),
    Codec("xz", b"\xfd7zXZ\0", lambda file: _FrameStream(file, _new_xz)),
)


def find_codec(start: bytes) -> Codec | None:
    """Return the codec of a file by its first bytes."""
    return next((codec for codec in CODECS if start.startswith(codec.magic)), None)


def open_decompressed(file: ReadableStream, add_bytes: Callable[[int], None]) -> ReadableStream:
    """Return a stream of the bytes of ``file``, decompressed if they are compressed."""
    start = file.read(_MAGIC_BYTES)
    codec = find_codec(start)
    peeked = _PeekedStream(start, file)
    return peeked if codec is None else DecompressedStream(peeked, codec, add_bytes)


def decompress_file(
    path: Path, target: Path, max_bytes: int, check_cancelled: Callable[[], None]
) -> Path:
    """Decompress ``path`` to ``target`` and return it; return ``path`` if it is not compressed.

    Raises :class:`UserError` ``dataset_invalid`` for damage, and if the result is larger than
    ``max_bytes`` or than its packed size allows.
    """
    with path.open("rb") as packed:
        codec = find_codec(packed.read(_MAGIC_BYTES))
        if codec is None:
            return path
        packed.seek(0)
        limit = ByteLimit(path.stat().st_size, max_bytes)
        source = CancellableStream(packed, check_cancelled)
        stream = DecompressedStream(source, codec, limit.add)
        try:
            with target.open("wb") as file:
                while data := stream.read(_CHUNK):
                    check_cancelled()
                    file.write(data)
        except UnreadableMemberError as error:
            raise UserError(
                "dataset_invalid",
                f"the upload {error}",
                hint="compress the files again, and upload the new file",
            ) from error
    return target
