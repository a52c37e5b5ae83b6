"""Every request has an answer in its time, also where many wait for the same thing in a row."""

import asyncio

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from store.settings import settings

log = structlog.get_logger()


class Deadline:
    """ASGI middleware that ends a request which has no answer; a stream that has begun may go on.

    The time counts from the last byte that came: an upload may take as long as its sender takes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, for so long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def received() -> Message:
            message = await receive()
            if message.get("body") and not begun:
                _extend(limit, _limit())
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            _extend(limit, None)
            await send(message)

        limit = asyncio.timeout_at(_limit())
        try:
            async with limit:
                await self._app(scope, received, sent)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            log.warning("no_answer_in_time")
            await problems.too_late(Request(scope))(scope, receive, send)


def _limit() -> float:
    return asyncio.get_running_loop().time() + settings().request_s


def _extend(limit: asyncio.Timeout, until: float | None) -> None:
    if not limit.expired():
        limit.reschedule(until)
