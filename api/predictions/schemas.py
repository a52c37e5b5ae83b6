"""Request and response bodies of predictions."""

import base64
import binascii
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel

MAX_IMAGES, MAX_CLASSES = 16, 20


def _decode_image(value: object) -> bytes:
    """The bytes of an image: a file of a form, or base64 with or without line breaks."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be an image file in base64")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("bad_base64", "is not base64 (RFC 4648, section 4)") from None


ImageBytes = Annotated[
    bytes,
    BeforeValidator(_decode_image),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class PredictBody(FrozenModel):
    """Image files (PNG, JPEG, BMP, WEBP), and the number of classes to return for each."""

    images: Annotated[tuple[ImageBytes, ...], Field(min_length=1, max_length=MAX_IMAGES)]
    k: Annotated[int, Field(ge=1, le=MAX_CLASSES)] = 5
    """A number above the model's number of classes returns all of them."""


class ClassProbability(BaseModel):
    """A class and its probability."""

    class_: str | None = Field(
        alias="class", description="Name of the class; null if the model has no names"
    )
    index: int
    probability: float


class ImagePrediction(BaseModel):
    """The classes of an image, the most likely first."""

    top: list[ClassProbability]


class UnreadableImage(BaseModel):
    """Why an image is unreadable."""

    error: str


class PredictionOut(BaseModel):
    """One entry for each image, in the order of the request."""

    object: Literal["prediction"]
    model: str
    data: list[ImagePrediction | UnreadableImage]
    duration_ms: float = Field(description="Run time of the prediction process")


_JSON = PredictBody.model_json_schema()
_FORM = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_IMAGES,
            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            "description": "Image files; repeat the field for each file",
        },
        "k": _JSON["properties"]["k"],
    },
    "additionalProperties": False,
}
REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": _JSON},
    },
}
"""For OpenAPI, because FastAPI does not parse this body."""
