"""A store while it is written: images in any order, one at a time, straight into the file.

The header stands first and holds facts that are known last, so room is kept for it. How much is a
function of the content, and so are all of the file's bytes.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.types import SPLITS, SUBSETS, SplitArrays, SplitName, SubsetName, iter_chunks
from kdcore.runtime.files import atomic_write, sha256_of
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import Normalization

Targets = Mapping[SplitName, npt.NDArray[np.int64]]
METADATA_KEY = "stillhouse"
"""The header's one metadata key."""
_WIDEST_STATISTIC = 0.123456
"""As many characters as a statistic of an image can have."""


def write_dataset(path: Path, subsets: Mapping[SubsetName, SplitArrays], info: DatasetInfo) -> str:
    """Write a whole store to ``path`` by atomic rename; return the file's sha256."""
    targets = {split: subsets[split].targets for split in SPLITS}
    with open_writer(path, info, targets) as writer:
        for part in writer.subsets:
            for start, piece in iter_chunks(subsets[part].images):
                writer.write_images(part, start, piece)
        writer.finish(info)
    return sha256_of(path)


@contextlib.contextmanager
def open_writer(
    path: Path, partial_info: DatasetInfo, targets: Targets
) -> Iterator["DatasetWriter"]:
    """A draft that becomes the file at ``path`` when the block ends well.

    ``outline`` is right but for statistics and digest, which :meth:`Draft.finish` corrects.
    """
    with atomic_write(path) as partial, partial.open("w+b") as file:
        yield DatasetWriter(file, partial_info, targets)


class DatasetWriter:
    """An open file with a place for every image of every part."""

    def __init__(self, file: BinaryIO, partial_info: DatasetInfo, targets: Targets) -> None:
        side = partial_info.image_size
        self._file = file
        self._shape = (partial_info.in_channels, side, side)
        self._targets = targets
        counts = {
            part: partial_info.splits[part].count for part in SUBSETS if part in partial_info.splits
        }
        self.subsets: tuple[SubsetName, ...] = tuple(counts)
        shapes: dict[str, tuple[int, ...]] = {f"{s}/targets": (counts[s],) for s in SPLITS}
        shapes |= {f"{part}/images": (count, *self._shape) for part, count in counts.items()}
        # Targets first: eight-byte values stay aligned whatever the number of pixels.
        self._shapes = shapes
        self._header_bytes = len(_header(shapes, _placeholder_info(partial_info), 0))
        self._offsets = {
            name: self._header_bytes + byte_range.start
            for name, byte_range in _byte_ranges(shapes).items()
        }
        self._size = self._header_bytes + max(
            byte_range.end for byte_range in _byte_ranges(shapes).values()
        )
        file.truncate(self._size)
        for split in SPLITS:
            self._write(self._offsets[f"{split}/targets"], targets[split].astype("<i8"))

    def write_images(self, subset: SubsetName, row: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write one image (C, H, W), or several (N, C, H, W) from ``row`` on."""
        if pixels.shape[-3:] != self._shape:
            raise ValueError(f"images of {pixels.shape} do not fit a store of {self._shape}")
        start = self._offsets[f"{subset}/images"] + row * int(np.prod(self._shape))
        self._write(start, pixels)

    def read_back(self) -> dict[SubsetName, SplitArrays]:
        """What has been written so far, read back from the file when it is looked at."""
        self._file.flush()
        none = np.empty(0, np.int64)
        return {
            part: SplitArrays(
                FileImages(
                    self._file.fileno(),
                    self._offsets[f"{part}/images"],
                    self._shapes[f"{part}/images"],
                ),
                none if part == "unlabeled" else self._targets[part],
            )
            for part in self.subsets
        }

    def finish(self, info: DatasetInfo) -> None:
        """Write the header with the facts as they turned out."""
        header = _header(self._shapes, info, self._header_bytes)
        if len(header) != self._header_bytes:
            raise ValueError("the facts of the finished store differ from those of its outline")
        self._write(0, np.frombuffer(header, np.uint8))
        self._file.flush()

    def _write(self, start: int, values: npt.NDArray[Any]) -> None:
        # A seek throws a buffer away, and most images follow the one before.
        if self._file.tell() != start:
            self._file.seek(start)
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


class FileImages:
    """Images (N, C, H, W) uint8 in an open file, read when they are asked for."""

    def __init__(self, descriptor: int, start: int, shape: tuple[int, ...]) -> None:
        self._descriptor = descriptor
        self._start = start
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.uint8]:
        first, end, _ = rows.indices(len(self))
        image_bytes = int(np.prod(self.shape[1:]))
        data = os.pread(
            self._descriptor, (end - first) * image_bytes, self._start + first * image_bytes
        )
        return np.frombuffer(data, np.uint8).reshape(-1, *self.shape[1:])


class _ByteRange(NamedTuple):
    start: int
    end: int


def _byte_ranges(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _ByteRange]:
    byte_ranges = {}
    offset = 0
    for name, shape in shapes.items():
        width = 8 if name.endswith("/targets") else 1
        end = offset + width * int(np.prod(shape))
        byte_ranges[name] = _ByteRange(offset, end)
        offset = end
    return byte_ranges


def _header(shapes: Mapping[str, tuple[int, ...]], info: DatasetInfo, min_bytes: int) -> bytes:
    text = json.dumps(info.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: text}}
    for name, byte_range in _byte_ranges(shapes).items():
        kind = "I64" if name.endswith("/targets") else "U8"
        header[name] = {"dtype": kind, "shape": shapes[name], "data_offsets": byte_range}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * max(-(len(encoded) + 8) % 8, min_bytes - 8 - len(encoded))
    return len(encoded).to_bytes(8, "little") + encoded


def _placeholder_info(info: DatasetInfo) -> DatasetInfo:
    """The same with statistics and digest of the greatest length."""
    statistics = (_WIDEST_STATISTIC,) * info.in_channels
    return info.model_copy(
        update={
            "normalization": Normalization(mean=statistics, std=statistics),
            "digest": hashlib.sha256().hexdigest(),
        }
    )
