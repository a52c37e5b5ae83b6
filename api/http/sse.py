"""Server-sent events: request headers, framing and the streaming response.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import Header, Query, Request
from starlette.responses import Response, StreamingResponse

from api.http import auth
from api.http.problems import ProblemError
from api.http.responses import dump_json

MEDIA_TYPE = "text/event-stream"
PING = b": ping\n\n"
PING_S = 15.0
RETRY = b"retry: 3000\n\n"
AUTH_RECHECK_S = 5.0
"""Interval at which a stream authenticates its request again."""
_MAX_DIGITS = 18
"""A number of 18 digits fits into Postgres's bigint."""


After = Annotated[
    int | None,
    Query(ge=0, le=2**62, description="Id of an event: only later ones are listed or streamed"),
]
LastEventId = Annotated[str | None, Header(description="The same as `after`, for a stream")]


def stream_responses(description: str) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route that returns a page or a stream, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content}}


def accepts_stream(request: Request) -> bool:
    """Whether the client requests the stream instead of a page of the list."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def resume_position(last_event_id: str | None, after: int | None) -> int:
    """The id after which a stream continues, from the header or the query parameter.

    Raises:
        ProblemError: 400 if the header is not a number.
    """
    if not last_event_id:
        return after or 0
    is_number = last_event_id.isascii() and last_event_id.isdigit()
    if not is_number or len(last_event_id) > _MAX_DIGITS:
        raise ProblemError(400, "bad_last_event_id", "Last-Event-ID must be the id of an event")
    return int(last_event_id)


def format_event(name: str, data: dict[str, Any], event_id: int | None) -> bytes:
    """The bytes of one event. Its JSON contains no line feed, so the data is a single line."""
    number = b"" if event_id is None else b"id: %d\n" % event_id
    name = " ".join(name.split())  # a line feed would end the field
    return number + b"event: " + name.encode() + b"\ndata: " + dump_json(data) + b"\n\n"


def stream_response(request: Request, frames: AsyncGenerator[bytes]) -> Response:
    """A streaming response, unbuffered by proxies; it ends when the credentials become invalid."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    permitted = _while_permitted(request, frames)
    return StreamingResponse(permitted, media_type=MEDIA_TYPE, headers=headers)


async def _while_permitted(request: Request, frames: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    checked = time.monotonic()
    async with contextlib.aclosing(frames):
        async for frame in frames:
            if time.monotonic() - checked > AUTH_RECHECK_S:
                try:
                    await auth.authenticate(request)
                except ProblemError:
                    return
                checked = time.monotonic()
            yield frame
