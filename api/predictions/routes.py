"""Predictions: the most likely classes of images. The scope ``jobs:read`` suffices."""

import base64
import binascii
from typing import Annotated, Any, Literal

import orjson
from fastapi import Request
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response
from typing_extensions import override

from api.http.auth import JobReader
from api.http.problems import InvalidRequestError, ProblemError, malformed_json
from api.http.responses import json_response
from api.http.routing import V1Route, v1_router
from api.models.onnx_export import load_servable, require_servable
from api.predictions.prediction_runner import predict as run_prediction
from api.predictions.prediction_runner import prediction_limiter
from kdcore.schema.base import FrozenModel
from kdcore.schema.validation.errors import field_issues
from store.settings import settings

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
    """Image files, in the formats of a data set, and the number of classes to return for each."""

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
_MAX_PARTS = 4 * MAX_IMAGES
"""Limit of files and of fields in a form. Above ``MAX_IMAGES``, so that the 422 names the limit."""
_FIELD_BYTES = 1000


class ImagesRoute(V1Route):
    """A route whose body may contain images."""

    @override
    def body_limit(self) -> int:
        return settings().max_predict_bytes


router = v1_router("/models/{model_id}/predict", "models", ImagesRoute)


@router.post("", response_model=PredictionOut, openapi_extra={"requestBody": REQUEST_BODY})
async def predict(model_id: str, request: Request, caller: JobReader) -> Response:
    """Get the most likely classes of each image, decoded and normalized as in training.

    Before the first prediction, a worker exports the model to ONNX. If that takes longer than a few
    seconds, the response is a 503 `preparing`. An unreadable image gets an `error` in its place.
    """
    await require_servable(model_id, caller)
    async with prediction_limiter().reserve(caller.project_id):
        body = await parse_predict_request(request)
        model = await load_servable(model_id, caller)
        prediction = await run_prediction(model, body.images, body.k)
    return json_response(
        {
            "object": "prediction",
            "model": model_id,
            "data": prediction.data,
            "duration_ms": prediction.duration_ms,
        }
    )


async def parse_predict_request(request: Request) -> PredictBody:
    """Parse and validate the body.

    Raises:
        ProblemError: 400 for malformed JSON or a malformed form, 413, 415.
        InvalidRequestError: all issues of the fields.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    await request.body()  # enforces the size limit before parsing
    if content_type == "multipart/form-data":
        body = await _form(request)
    elif content_type == "application/json":
        body = await _json(request)
    else:
        detail = "send images as multipart/form-data, or in base64 as application/json"
        raise ProblemError(415, "unsupported_media_type", detail)
    try:
        return PredictBody.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise InvalidRequestError(field_issues(errors, body, PredictBody)) from None


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except orjson.JSONDecodeError as error:
        raise malformed_json(error.msg, error.pos) from None


async def _form(request: Request) -> dict[str, Any]:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=_MAX_PARTS,
        max_fields=_MAX_PARTS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError):
        detail = (
            f"the form is malformed; it may have up to {MAX_IMAGES} files `images` and a field `k`"
        )
        raise ProblemError(400, "malformed_form", detail) from None
    body: dict[str, Any] = {}
    try:
        for name, value in form.multi_items():
            plain = await value.read() if isinstance(value, UploadFile) else value
            if name == "images":
                body.setdefault("images", []).append(plain)
            else:
                body[name] = plain
    finally:
        await form.close()
    return body
