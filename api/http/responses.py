"""JSON responses: orjson, times in UTC with a Z."""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response


def dump_json(data: Any) -> bytes:
    """JSON of plain values, times and pydantic models. NaN and infinity become null."""
    return orjson.dumps(data, default=_plain, option=orjson.OPT_UTC_Z)


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
