"""The bodies of a prediction: a form with files, or JSON."""

from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.http.problems import Invalid, Problem
from api.predictions.schemas import MOST_IMAGES, PredictAsked
from kdcore.schema.validation.errors import field_faults

_MOST_PARTS = 4 * MOST_IMAGES
"""Files or fields that are read at all: a few too many are counted and told, thousands are not."""
_FIELD_BYTES = 1000


async def asked(request: Request) -> PredictAsked:
    """What the body asks; a problem with all faults where it does not make sense."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    await request.body()  # whole, and within the route's limit, before anything is made of it
    if kind == "multipart/form-data":
        body = await _form(request)
    elif kind == "application/json":
        body = await _json(request)
    else:
        detail = "send images as multipart/form-data, or in base64 as application/json"
        raise Problem(415, "unsupported_media_type", detail)
    try:
        return PredictAsked.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise Invalid(field_faults(found, body, PredictAsked)) from None


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except orjson.JSONDecodeError:
        raise Problem(400, "malformed_json", "the body is not valid JSON") from None


async def _form(request: Request) -> dict[str, Any]:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=_MOST_PARTS,
        max_fields=_MOST_PARTS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError):
        detail = f"the form cannot be read; it may have {MOST_IMAGES} files `images` and `k`"
        raise Problem(400, "malformed_form", detail) from None
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
