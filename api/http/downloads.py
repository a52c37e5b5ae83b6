"""Downloads from the object store: all or in ranges; the entity tag is the SHA-256 (RFC 9110)."""

import re
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.http.problems import ProblemError
from store import object_store

_RANGE = re.compile(r"^bytes=(\d{0,19})-(\d{0,19})$")
BINARY = "application/octet-stream"
DOWNLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY: {"schema": {"type": "string"}}}},
    206: {"description": "The requested range"},
    304: {"description": "The client already has these bytes"},
    416: {"description": "The range starts after the end of the file"},
}


def download_response(
    request: Request, key: str, size: int, sha256: str, filename: str, media_type: str = BINARY
) -> Response:
    """Send the object ``key``: a 200, 206 or 304, by the request's ``Range`` and conditions.

    Raises:
        ProblemError: 416 for a range after the end.
        ObjectStoreUnavailableError: the object store does not respond or lacks the object.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _content_disposition(filename),
        # The bytes of an id never change, but the caller's permission may.
        "Cache-Control": "private, no-cache",
    }
    if _etag_matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if not object_store.exists(key):
        raise object_store.ObjectNotFoundError(key)
    byte_range = _parse_range(request, etag, size)
    if byte_range is None:
        headers["Content-Length"] = str(size)
        return StreamingResponse(object_store.read(key), 200, headers, media_type=media_type)
    start, end = byte_range
    headers |= {
        "Content-Range": f"bytes {start}-{end - 1}/{size}",
        "Content-Length": str(end - start),
    }
    return StreamingResponse(
        object_store.read(key, start, end), 206, headers, media_type=media_type
    )


def _content_disposition(filename: str) -> str:
    """The header that names the file (RFC 6266); a name beyond plain ASCII is percent-encoded."""
    if re.fullmatch(r"[\w. -]+", filename, re.ASCII):
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=UTF-8''{quote(filename)}"


def _etag_matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or tags == ["*"]


def _parse_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """Start and end of the requested range in bytes; None for all of the file.

    RFC 9110, 14.2 allows to send all of the file for several ranges or another unit than bytes.
    """
    match = _RANGE.match(request.headers.get("range", "").strip())
    if match is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        raise ProblemError(
            416,
            "range_not_satisfiable",
            f"the file has {size} bytes, and the range starts after them",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
