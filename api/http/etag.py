"""Entity tags: a version of a resource for `If-None-Match` and `If-Match` (RFC 9110)."""

import hashlib
import re
import zlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.http.responses import json_response

_PLAIN_TAG = re.compile(r"[\w.-]{1,200}", re.ASCII)
"""What a header may contain; a part of any other tag comes from text that a row stores."""


def etag_response(request: Request, data: Any, tag: str) -> Response:
    """A resource with its entity tag; a 304 if the client already has this version."""
    if not _PLAIN_TAG.fullmatch(tag):
        tag = hashlib.sha256(tag.encode()).hexdigest()
    etag = f'W/"{tag}"'
    headers = {"ETag": etag}
    if etag.removeprefix("W/") in _parse_etags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return json_response(data, headers=headers)


def asset_tag(rev: int, waiting_reason: str | None) -> str:
    """The tag of a data set or model: its version, and the state of the queue while it waits."""
    return str(rev) if waiting_reason is None else f"{rev}.{zlib.crc32(waiting_reason.encode()):x}"


def _parse_etags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def if_match(request: Request, version: int) -> bool:
    """Whether the request's ``If-Match`` allows a change of a resource of this ``version``.

    An entity tag begins with the version, which counts changes by users only: progress that a
    worker reported in the meantime does not fail the condition.
    """
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return True
    return str(version) in [tag.strip('"').partition(".")[0] for tag in _parse_etags(header)]
