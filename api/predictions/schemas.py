"""A question to a model, and its answer."""

import base64
import binascii
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel

MAX_IMAGES, MAX_CLASSES = 16, 20


def _decode_image(value: object) -> bytes:
    """Files of a form are bytes already; JSON has them in base64, in lines or not."""
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
    """Image files (PNG, JPEG, BMP, WEBP) and how many classes to name for each."""

    images: Annotated[tuple[ImageBytes, ...], Field(min_length=1, max_length=MAX_IMAGES)]
    k: Annotated[int, Field(ge=1, le=MAX_CLASSES)] = 5
    """More than the model has classes is taken as all of them."""


class ClassProbability(BaseModel):
    """One class and how likely it is."""

    class_: str | None = Field(alias="class", description="Null where nobody gave the names")
    index: int
    probability: float


class ImagePrediction(BaseModel):
    """What an image shows, the likeliest class first."""

    top: list[ClassProbability]


class UnreadableImage(BaseModel):
    """Why an image cannot be read."""

    error: str


class PredictionOut(BaseModel):
    """One entry for each image, in the order in which they were sent."""

    object: Literal["prediction"]
    model: str
    data: list[ImagePrediction | UnreadableImage]
    duration_ms: float = Field(description="From the start of the process that answers to its end")


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
            "description": "Files: the field is repeated for each",
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
"""For OpenAPI: the route reads its body itself."""
