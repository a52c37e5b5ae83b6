"""Images of a data set: a route that returns some of them as PNG files.

They are read from the object store by their offset in the data set's file: a header that says where
each tensor lies, then ``<split>/targets`` int64 and ``<split>/images`` (N, C, H, W) uint8, row by
row (kdcore/data/dataset.py writes it). Format: https://github.com/huggingface/safetensors#format.
"""

import array
import base64
import functools
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.pagination import Page
from api.http.problems import ConflictError, InvalidRequestError
from api.http.responses import json_response
from api.http.routing import v1_router
from kdcore.schema.old_spelling import with_current_spelling
from store import object_store
from store.database import read_session
from store.tables import Dataset

router = v1_router("/datasets/{dataset_id}/images", "data sets")
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


MAX_ROWS = 100
_PER_CLASS = 2
_DEFAULT_ROWS = 40
_MAX_BYTES = 16 * 2**20
"""Limit of pixels in a response, which is built in memory."""


class DatasetImageOut(BaseModel):
    """An image of a data set."""

    row: int
    split: str
    target: int | None = Field(description="Index of the class; null without a label")
    class_: str | None = Field(alias="class")
    png: str = Field(description="The image as a PNG file in base64")


class DatasetImagePage(Page[DatasetImageOut]):
    """The requested images in the order of the request, always in one page."""


@router.get("", response_model=DatasetImagePage)
def list_dataset_images(
    dataset_id: str,
    caller: JobReader,
    split: Literal["train", "val", "test", "unlabeled"] = "test",
    rows: Annotated[
        str | None,
        Query(
            max_length=1000, description="Row numbers, comma-separated; default: 2 of each class"
        ),
    ] = None,
    size: Annotated[
        int | None, Query(ge=8, le=512, description="Longest side in pixels; default: as stored")
    ] = None,
) -> Response:
    """Get images of a ready data set as a training sees them: decoded, cropped and resized."""
    with read_session() as session:
        dataset = scoping.get_or_404(session, Dataset, dataset_id, caller)
    if dataset.object_key is None or dataset.info is None:
        detail = f"the data set has no images yet (state: {dataset.state})"
        raise ConflictError("not_ready", detail, current_state=dataset.state)
    if split not in dataset.info["splits"]:
        raise _invalid_query(
            "split",
            "not_found",
            f"must be a split of the data set: {', '.join(dataset.info['splits'])}",
        )
    images = DatasetImages(dataset.object_key, split)
    max_images = max(1, _MAX_BYTES // images.bytes_per_image)
    indices = (
        _first_of_every_class(images)[:max_images]
        if rows is None
        else _parse_rows(rows, len(images))
    )
    if len(indices) > max_images:
        raise _invalid_query(
            "rows", "too_many", f"a response may have at most {max_images} images of this size"
        )
    names = dataset.info["classes"]
    data = [_serialize_image(image, split, names, size) for image in images.read(indices)]
    return json_response({"data": data, "next_cursor": None})


def _parse_rows(rows: str, count: int) -> list[int]:
    parts = rows.split(",")
    if len(parts) > MAX_ROWS:
        raise _invalid_query("rows", "too_many", f"a response may have at most {MAX_ROWS} images")
    indices = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(indices) < len(parts) or max(indices) >= count:
        detail = f"must be row numbers from 0 to {count - 1}, separated by commas"
        raise _invalid_query("rows", "bad_rows", detail)
    return indices


def _first_of_every_class(images: DatasetImages) -> list[int]:
    """The first rows of each class, sorted by class."""
    targets = images.targets()
    if not targets:
        return list(range(min(_DEFAULT_ROWS, len(images))))
    seen: Counter[int] = Counter()
    indices = []
    for row, target in enumerate(targets):
        if seen[target] < _PER_CLASS:
            seen[target] += 1
            indices.append(row)
    return sorted(indices, key=lambda row: (targets[row], row))[:_DEFAULT_ROWS]


def _serialize_image(
    image: DatasetImage, split: str, names: list[str], size: int | None
) -> dict[str, Any]:
    target = image.target
    return {
        "row": image.row,
        "split": split,
        "target": target,
        "class": None if target is None else names[target],
        "png": _encode_png(image, size),
    }


def _encode_png(dataset_image: DatasetImage, size: int | None) -> str:
    channels, height, width = dataset_image.shape
    plane = height * width
    # The pixels are stored channel by channel, and Pillow merges one image per channel.
    planes = [
        Image.frombytes(
            "L", (width, height), dataset_image.pixels[channel * plane : (channel + 1) * plane]
        )
        for channel in range(channels)
    ]
    image = planes[0] if channels == 1 else Image.merge("RGB", planes)
    if size is not None and size < max(image.size):
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _invalid_query(field: str, code: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError.of(f"?{field}", code, detail)
