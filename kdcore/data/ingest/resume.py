"""ResumeFolder: what an ingestion of a source has read, for a run that continues it.

The files of the folder are appended to, and every write reaches the system at once, so a killed
process loses one entry at most. A checksum for each image finds pixels that a power failure lost.
"""

import fcntl
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from kdcore.data.decode import ImageHeader

_VERSION = 1
"""Raise it when headers or pixels of the same files change."""
_ROW = struct.Struct("<16sI")
"""Digest of the path of an image, checksum of its pixels."""

Pixels = npt.NDArray[np.uint8]


class ResumeFolder:
    """Headers, decoded pixels and the copy of one source; :meth:`open` locks it for one process."""

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self._folder = folder
        self._lock = lock
        self._headers_file: IO[bytes] | None = None
        self._headers: dict[str, ImageHeader] = {}
        self._pixels: PixelFile | None = None

    @classmethod
    def open(cls, folder: Path, key: str) -> Self | None:
        """Open a folder for the source whose list has this digest; empty it for another one.

        Returns None if another process, such as the engine of a lost run, still uses it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return None
        key_file, key = folder / "key", f"{_VERSION} {key}"
        if not key_file.is_file() or key_file.read_text() != key:
            for path in folder.iterdir():
                if path.name != "lock":
                    path.unlink()
            key_file.write_text(key)
        opened = cls(folder, lock)
        opened._load_headers()
        return opened

    def close(self) -> None:
        """Close the files, and let another process use the folder."""
        if self._headers_file is not None:
            self._headers_file.close()
        if self._pixels is not None:
            self._pixels.close()
        self._lock.close()

    @property
    def copy_path(self) -> Path:
        """The copy of a source that is one file; what it has is continued."""
        return self._folder / "copy"

    def header(self, name: str) -> ImageHeader | None:
        """The header of an image, if an earlier run has read it."""
        return self._headers.get(name)

    def add_header(self, name: str, header: ImageHeader) -> None:
        """Store the header of an image."""
        if self._headers_file is not None:
            self._headers_file.write(json.dumps([name, *header]).encode() + b"\n")

    def pixels(self, image_format: tuple[int, ...]) -> "PixelFile":
        """The decoded images of one format; those of another format are deleted."""
        if self._pixels is None:
            self._pixels = PixelFile(self._folder, image_format)
        return self._pixels

    def _load_headers(self) -> None:
        path = self._folder / "headers.jsonl"
        data = path.read_bytes() if path.exists() else b""
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines():
            name, *fields = json.loads(line)
            self._headers[name] = ImageHeader(*fields)
        self._headers_file = path.open("ab", buffering=0)
        self._headers_file.truncate(end)


class PixelFile:
    """Decoded images (C, S, S), in the order in which they were decoded."""

    def __init__(self, folder: Path, image_format: tuple[int, ...]) -> None:
        size, gray = image_format[:2]
        self._shape = (1 if gray else 3, size, size)
        self._bytes = self._shape[0] * size * size
        format_file, text = folder / "format.json", json.dumps(image_format)
        is_same = format_file.is_file() and format_file.read_text() == text
        mode: Any = "r+b" if is_same else "w+b"
        self._rows_file = (folder / "rows").open(mode, buffering=0)
        self._pixels_file = (folder / "pixels").open(mode, buffering=0)
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._load_rows()
        format_file.write_text(text)

    def close(self) -> None:
        """Close the files."""
        self._rows_file.close()
        self._pixels_file.close()

    def read(self, path_parts: tuple[str, ...]) -> Pixels | None:
        """The pixels of an image; None if they are not stored, or damaged."""
        row, checksum = self._rows.get(_digest(path_parts), (None, 0))
        if row is None:
            return None
        data = os.pread(self._pixels_file.fileno(), self._bytes, row * self._bytes)
        if len(data) < self._bytes or zlib.crc32(data) != checksum:
            return None
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def add(self, path_parts: tuple[str, ...], pixels: Pixels) -> None:
        """Append the pixels of an image."""
        data, key = pixels.tobytes(), _digest(path_parts)
        checksum = zlib.crc32(data)
        self._pixels_file.write(data)
        self._rows_file.write(_ROW.pack(key, checksum))
        self._rows[key] = (self._num_rows, checksum)
        self._num_rows += 1

    def _load_rows(self) -> None:
        """Read the rows whose pixels are complete, and drop a partial one at the end."""
        data = self._rows_file.read()
        stored = os.fstat(self._pixels_file.fileno()).st_size // self._bytes
        self._num_rows = min(len(data) // _ROW.size, stored)
        for row in range(self._num_rows):
            key, checksum = _ROW.unpack_from(data, row * _ROW.size)
            self._rows[key] = (row, checksum)
        for file, size in ((self._rows_file, _ROW.size), (self._pixels_file, self._bytes)):
            file.truncate(self._num_rows * size)
            file.seek(0, os.SEEK_END)


def _digest(path_parts: tuple[str, ...]) -> bytes:
    text = "\0".join(path_parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
