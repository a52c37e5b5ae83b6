"""Images of a data set: a route that returns some of them as PNG files."""

import base64
import io
from collections import Counter
from typing import Annotated, Any, Literal

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
from store.database import read_session
from store.dataset_images import DatasetImage, DatasetImages
from store.tables import Dataset

router = v1_router("/datasets/{dataset_id}/images", "data sets")

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
