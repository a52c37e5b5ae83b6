"""Write a stored data set: images in any order, one at a time, straight into the file.

The header comes first in the file, but its statistics are known only after the last image. So the
file starts with room for the header, and the header is padded with spaces to fill that room, which
safetensors allows. The size of the room depends on the content alone, so equal data gives equal
files.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.types import SPLITS, SUBSETS, SplitArrays, SplitName, SubsetName, iter_chunks
from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.schema.asset_info import DatasetInfo

Targets = Mapping[SplitName, npt.NDArray[np.int64]]
METADATA_KEY = "stillhouse"
"""The header's one metadata key."""
_LENGTH_BYTES = 8
_STATISTICS_BYTES = 4 << 10
"""Room for the statistics and the digest, which are still missing in the outline's header."""
_HEADER_UNIT_BYTES = 64 << 10
"""The header's size, with its eight bytes of length, is a multiple of this."""


def write_dataset(path: Path, subsets: Mapping[SubsetName, SplitArrays], info: DatasetInfo) -> str:
    """Write a data set to ``path`` by atomic rename and return the file's SHA-256."""
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
    """Yield a writer; its file becomes ``path`` when the block ends without an exception.

    ``partial_info`` has all facts except statistics and digest: :meth:`DatasetWriter.finish` takes
    the final facts.
    """
    with atomic_write(path) as partial, partial.open("w+b") as file:
        yield DatasetWriter(file, partial_info, targets)


class DatasetWriter:
    """An open file with room for every image of every split."""

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
        self._header_bytes = _padded_size(len(_encode_header(shapes, partial_info)))
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
            raise ValueError(f"images are {pixels.shape}, those of the data set {self._shape}")
        start = self._offsets[f"{subset}/images"] + row * int(np.prod(self._shape))
        self._write(start, pixels)

    def read_back(self) -> dict[SubsetName, SplitArrays]:
        """Return all arrays; their images are read from the file on access."""
        self._file.flush()
        no_targets = np.empty(0, np.int64)
        return {
            part: SplitArrays(
                FileImages(
                    self._file.fileno(),
                    self._offsets[f"{part}/images"],
                    self._shapes[f"{part}/images"],
                ),
                no_targets if part == "unlabeled" else self._targets[part],
            )
            for part in self.subsets
        }

    def finish(self, info: DatasetInfo) -> None:
        """Write the header with the final ``info``. Raises ``ValueError`` if it does not fit."""
        header = _encode_header(self._shapes, info)
        if len(header) + _LENGTH_BYTES > self._header_bytes:
            raise ValueError(
                f"the header has {len(header)} bytes, more than the outline left room for "
                f"({self._header_bytes - _LENGTH_BYTES})"
            )
        header = header.ljust(self._header_bytes - _LENGTH_BYTES)
        length = len(header).to_bytes(_LENGTH_BYTES, "little")
        self._write(0, np.frombuffer(length + header, np.uint8))
        self._file.flush()

    def _write(self, start: int, values: npt.NDArray[Any]) -> None:
        # A seek discards the buffer, and most images follow the previous one.
        if self._file.tell() != start:
            self._file.seek(start)
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


class FileImages:
    """Images (N, C, H, W) uint8 in an open file, read on access."""

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


def _encode_header(shapes: Mapping[str, tuple[int, ...]], info: DatasetInfo) -> bytes:
    """The header as JSON, without padding and without its length in front."""
    # Optional facts are left out, so that files without them have the same bytes as always.
    fields = info.model_dump(mode="json", exclude_none=True)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: text}}
    for name, byte_range in _byte_ranges(shapes).items():
        dtype = "I64" if name.endswith("/targets") else "U8"
        header[name] = {"dtype": dtype, "shape": shapes[name], "data_offsets": byte_range}
    return json.dumps(header, separators=(",", ":")).encode()


def _padded_size(outline_bytes: int) -> int:
    """Bytes of the header and its length, for an outline whose header has ``outline_bytes``."""
    needed = _LENGTH_BYTES + outline_bytes + _STATISTICS_BYTES
    return -(-needed // _HEADER_UNIT_BYTES) * _HEADER_UNIT_BYTES
