"""JSON responses: orjson, times in UTC with a Z."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from store.json_values import encode_json


def dump_json(data: Any) -> bytes:
    """JSON of plain values, times and pydantic models; no number or text makes it fail."""
    return encode_json(data, _plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value)} has no JSON representation")


def json_response(
    data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with a JSON body."""
    return Response(
        dump_json(data), status, headers=dict(headers or {}), media_type="application/json"
    )
