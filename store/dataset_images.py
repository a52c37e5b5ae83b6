"""Single images of a data set, read from the object store by their offset in its file.

A data set is one safetensors file (kdcore/data/dataset.py writes it): a header that says where each
tensor lies, then ``<split>/targets`` int64 and ``<split>/images`` (N, C, H, W) uint8, row by row.
Format: https://github.com/huggingface/safetensors#format.
"""

import array
import functools
import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from kdcore.schema.old_spelling import with_current_spelling
from store import object_store

_LENGTH_BYTES = 8
_MAX_CACHED_HEADERS = 64
"""Headers in memory; objects never change, so that headers stay valid."""


class DatasetImage(NamedTuple):
    """One stored image."""

    row: int
    target: int | None
    """Index of the class; None in the split without labels."""
    shape: tuple[int, int, int]
    """(C, H, W)"""
    pixels: bytes


class DatasetImages:
    """One split of the data set at ``key``. Raises KeyError if there is no such split."""

    def __init__(self, key: str, split: str) -> None:
        self._key = key
        self._start, header = _header(key)
        self._images = header[f"{split}/images"]
        self._targets = header.get(f"{split}/targets")

    def __len__(self) -> int:
        return int(self._images["shape"][0])

    @property
    def bytes_per_image(self) -> int:
        """Size of one image."""
        _, channels, height, width = self._images["shape"]
        return int(channels * height * width)

    def targets(self) -> list[int]:
        """The class of every row; empty in the split without labels."""
        if self._targets is None:
            return []
        class_indices = array.array("q", self._read(self._targets, 0, len(self) * 8))
        if sys.byteorder == "big":
            class_indices.byteswap()
        return class_indices.tolist()

    def read(self, rows: Iterable[int]) -> list[DatasetImage]:
        """Images of these rows, in their order. Raises IndexError for a missing row."""
        targets = self.targets()
        size, shape = self.bytes_per_image, tuple(self._images["shape"][1:])
        images = []
        for row in rows:
            if not 0 <= row < len(self):
                raise IndexError(row)
            pixels = self._read(self._images, row * size, size)
            images.append(DatasetImage(row, targets[row] if targets else None, shape, pixels))
        return images

    def _read(self, tensor: dict[str, Any], offset: int, length: int) -> bytes:
        start = self._start + tensor["data_offsets"][0] + offset
        return b"".join(object_store.read(self._key, start, start + length))


@functools.lru_cache(_MAX_CACHED_HEADERS)
def _header(key: str) -> tuple[int, dict[str, Any]]:
    """Offset of the first tensor, and the header."""
    length = int.from_bytes(b"".join(object_store.read(key, 0, _LENGTH_BYTES)), "little")
    start = _LENGTH_BYTES + length
    header = json.loads(b"".join(object_store.read(key, _LENGTH_BYTES, start)))
    return start, with_current_spelling(header)
