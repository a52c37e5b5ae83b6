"""A data set's images, a few at a time: to look at what is taught, and at what is mistaken."""

import base64
import io
from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import Query
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http import scoping
from api.http.auth import Reader
from api.http.pagination import Page
from api.http.problems import Conflict, Invalid
from api.http.responses import reply
from api.http.router import router
from kdcore.schema.validation.errors import Fault
from store.database import reading
from store.dataset_images import Picture, Pictures
from store.tables import Dataset

pictures = router("/datasets/{dataset_id}", "data sets")

MOST_ROWS = 100
_PER_CLASS = 2
_UNASKED = 40
_MOST_BYTES = 16 * 2**20
"""Of stored pixels in one answer: it is held in memory, and sent as text."""


class PictureOut(BaseModel):
    """One image."""

    row: int
    split: str
    target: int | None = Field(description="Index of its class; null without a label")
    class_: str | None = Field(alias="class")
    png: str = Field(description="A PNG file in base 64")


class PicturePage(Page):
    """The images that were asked for, in that order; always the whole answer."""

    data: list[PictureOut]


@pictures.get("/images", response_model=PicturePage)
def list_images(
    dataset_id: str,
    caller: Reader,
    split: Literal["train", "val", "test", "unlabelled"] = "test",
    rows: Annotated[
        str | None, Query(max_length=1000, description="Comma-separated; null: two of each class")
    ] = None,
    size: Annotated[
        int | None, Query(ge=8, le=512, description="Longest side; null leaves them as stored")
    ] = None,
) -> Response:
    """Images of a ready data set as they are taught: decoded, cropped and resized."""
    with reading() as session:
        dataset = scoping.get(session, Dataset, dataset_id, caller)
    if dataset.object_key is None or dataset.info is None:
        detail = f"a data set that is {dataset.state} has no images"
        raise Conflict("not_ready", detail, current_state=dataset.state)
    if split not in dataset.info["splits"]:
        raise _fault("split", "not_found", "the data set has no such split")
    found = Pictures(dataset.object_key, split)
    fitting = max(1, _MOST_BYTES // found.image_bytes)
    # Who names no rows gets as many as may be sent.
    chosen = _some_of_each(found)[:fitting] if rows is None else _asked(rows, len(found))
    if len(chosen) > fitting:
        raise _fault("rows", "too_many", f"ask for at most {fitting} of these images at once")
    names = dataset.info["classes"]
    shown = [_shown(each, split, names, size) for each in found.read(chosen)]
    return reply({"data": shown, "next_cursor": None})


def _asked(rows: str, count: int) -> list[int]:
    parts = rows.split(",")
    if len(parts) > MOST_ROWS:
        raise _fault("rows", "too_many", f"at most {MOST_ROWS} rows are sent at once")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(numbers) < len(parts) or max(numbers) >= count:
        detail = f"must be row numbers from 0 to {count - 1}, separated by commas"
        raise _fault("rows", "bad_rows", detail)
    return numbers


def _some_of_each(found: Pictures) -> list[int]:
    """The first rows of each class, class by class."""
    targets = found.targets()
    if not targets:
        return list(range(min(_UNASKED, len(found))))
    seen: Counter[int] = Counter()
    chosen = []
    for row, target in enumerate(targets):
        if seen[target] < _PER_CLASS:
            seen[target] += 1
            chosen.append(row)
    return sorted(chosen, key=lambda row: (targets[row], row))[:_UNASKED]


def _shown(picture: Picture, split: str, names: list[str], size: int | None) -> dict[str, Any]:
    target = picture.target
    return {
        "row": picture.row,
        "split": split,
        "target": target,
        "class": None if target is None else names[target],
        "png": _png(picture, size),
    }


def _png(picture: Picture, size: int | None) -> str:
    channels, height, width = picture.shape
    plane = height * width
    # Pillow wants the channels of a pixel side by side; they are stored plane by plane.
    planes = [
        Image.frombytes("L", (width, height), picture.pixels[at * plane : (at + 1) * plane])
        for at in range(channels)
    ]
    image = planes[0] if channels == 1 else Image.merge("RGB", planes)
    if size is not None and size < max(image.size):
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def _fault(field: str, code: str, detail: str) -> Invalid:
    return Invalid([Fault(pointer=f"?{field}", code=code, detail=detail)])
