"""Predictions: the most likely classes of images. The scope ``jobs:read`` suffices."""

from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response
from typing_extensions import override

from api.http.auth import JobReader
from api.http.problems import InvalidRequestError, ProblemError
from api.http.responses import json_response
from api.http.routing import V1Route, v1_router
from api.models.onnx_export import load_servable, require_servable
from api.predictions.runner import predict as run_prediction
from api.predictions.runner import prediction_limiter
from api.predictions.schemas import MAX_IMAGES, REQUEST_BODY, PredictBody, PredictionOut
from kdcore.schema.validation.errors import field_issues
from store.settings import settings

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
    except orjson.JSONDecodeError:
        raise ProblemError(400, "malformed_json", "the body is not valid JSON") from None


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
