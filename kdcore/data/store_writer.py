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

from kdcore.data.types import PARTS, SPLITS, Arrays, PartName, SplitName, chunks
from kdcore.runtime.files import replacing, sha256_of
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import Normalisation

Targets = Mapping[SplitName, npt.NDArray[np.int64]]
KEY = "stillhouse"
"""The header's one metadata key."""
_WIDEST = 0.123456
"""As many characters as a statistic of an image can have."""


def write(path: Path, parts: Mapping[PartName, Arrays], info: DatasetInfo) -> str:
    """Write a whole store to ``path`` by atomic rename; return the file's sha256."""
    targets = {split: parts[split].targets for split in SPLITS}
    with drafting(path, info, targets) as draft:
        for part in draft.parts:
            for start, piece in chunks(parts[part].images):
                draft.put(part, start, piece)
        draft.finish(info)
    return sha256_of(path)


@contextlib.contextmanager
def drafting(path: Path, outline: DatasetInfo, targets: Targets) -> Iterator["Draft"]:
    """A draft that becomes the file at ``path`` when the block ends well.

    ``outline`` is right but for statistics and digest, which :meth:`Draft.finish` corrects.
    """
    with replacing(path) as partial, partial.open("w+b") as file:
        yield Draft(file, outline, targets)


class Draft:
    """An open file with a place for every image of every part."""

    def __init__(self, file: BinaryIO, outline: DatasetInfo, targets: Targets) -> None:
        side = outline.image_size
        self._file = file
        self._shape = (outline.in_channels, side, side)
        self._targets = targets
        counts = {part: outline.splits[part].count for part in PARTS if part in outline.splits}
        self.parts: tuple[PartName, ...] = tuple(counts)
        shapes: dict[str, tuple[int, ...]] = {f"{s}/targets": (counts[s],) for s in SPLITS}
        shapes |= {f"{part}/images": (count, *self._shape) for part, count in counts.items()}
        # Targets first: eight-byte values stay aligned whatever the number of pixels.
        self._shapes = shapes
        self._room = len(_header(shapes, _placeheld(outline), 0))
        self._starts = {name: self._room + place.start for name, place in _places(shapes).items()}
        self._size = self._room + max(place.end for place in _places(shapes).values())
        file.truncate(self._size)
        for split in SPLITS:
            self._write(self._starts[f"{split}/targets"], targets[split].astype("<i8"))

    def put(self, part: PartName, row: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write one image (C, H, W), or several (N, C, H, W) from ``row`` on."""
        if pixels.shape[-3:] != self._shape:
            raise ValueError(f"images of {pixels.shape} do not fit a store of {self._shape}")
        start = self._starts[f"{part}/images"] + row * int(np.prod(self._shape))
        self._write(start, pixels)

    def arrays(self) -> dict[PartName, Arrays]:
        """What has been written so far, read back from the file when it is looked at."""
        self._file.flush()
        none = np.empty(0, np.int64)
        return {
            part: Arrays(
                Rows(
                    self._file.fileno(),
                    self._starts[f"{part}/images"],
                    self._shapes[f"{part}/images"],
                ),
                none if part == "unlabelled" else self._targets[part],
            )
            for part in self.parts
        }

    def finish(self, info: DatasetInfo) -> None:
        """Write the header with the facts as they turned out."""
        header = _header(self._shapes, info, self._room)
        if len(header) != self._room:
            raise ValueError("the facts of the finished store differ from those of its outline")
        self._write(0, np.frombuffer(header, np.uint8))
        self._file.flush()

    def _write(self, start: int, values: npt.NDArray[Any]) -> None:
        # A seek throws a buffer away, and most images follow the one before.
        if self._file.tell() != start:
            self._file.seek(start)
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


class Rows:
    """Images (N, C, H, W) uint8 in an open file, read when they are asked for."""

    def __init__(self, descriptor: int, start: int, shape: tuple[int, ...]) -> None:
        self._descriptor = descriptor
        self._start = start
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.uint8]:
        first, end, _ = rows.indices(len(self))
        each = int(np.prod(self.shape[1:]))
        data = os.pread(self._descriptor, (end - first) * each, self._start + first * each)
        return np.frombuffer(data, np.uint8).reshape(-1, *self.shape[1:])


class _Place(NamedTuple):
    start: int
    end: int


def _places(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _Place]:
    places = {}
    offset = 0
    for name, shape in shapes.items():
        width = 8 if name.endswith("/targets") else 1
        end = offset + width * int(np.prod(shape))
        places[name] = _Place(offset, end)
        offset = end
    return places


def _header(shapes: Mapping[str, tuple[int, ...]], info: DatasetInfo, room: int) -> bytes:
    text = json.dumps(info.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {KEY: text}}
    for name, place in _places(shapes).items():
        kind = "I64" if name.endswith("/targets") else "U8"
        header[name] = {"dtype": kind, "shape": shapes[name], "data_offsets": place}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * max(-(len(encoded) + 8) % 8, room - 8 - len(encoded))
    return len(encoded).to_bytes(8, "little") + encoded


def _placeheld(info: DatasetInfo) -> DatasetInfo:
    """The same with statistics and digest of the greatest length."""
    each = (_WIDEST,) * info.in_channels
    return info.model_copy(
        update={
            "normalisation": Normalisation(mean=each, std=each),
            "digest": hashlib.sha256().hexdigest(),
        }
    )
