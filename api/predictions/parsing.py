"""The bodies of a prediction: a form with files, or JSON."""

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
"""Files or fields that are read at all: a few too many are counted and told, thousands are not."""
_FIELD_BYTES = 1000


async def parse_predict_request(request: Request) -> PredictBody:
    """What the body asks; a problem with all faults where it does not make sense."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    await request.body()  # whole, and within the route's limit, before anything is made of it
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
        detail = f"the form cannot be read; it may have {MAX_IMAGES} files `images` and `k`"
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
