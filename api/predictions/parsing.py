"""Parse the body of a prediction: a multipart form with files, or JSON."""

from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.http.problems import InvalidRequestError, ProblemError
from api.predictions.schemas import MAX_IMAGES, PredictBody
from kdcore.schema.validation.errors import field_issues

_MAX_PARTS = 4 * MAX_IMAGES
"""Limit of files and of fields in a form. Above ``MAX_IMAGES``, so that the 422 names the limit."""
_FIELD_BYTES = 1000


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
