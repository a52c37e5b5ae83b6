"""Every request has an answer in its time, also where many wait for the same thing in a row."""

import math

import anyio
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import problems
from store.settings import settings

log = structlog.get_logger()


class Deadline:
    """ASGI middleware that ends a request which has no answer; a stream that has begun may go on.

    The time counts from the last byte that came. What a thread has begun it ends: the answer is
    then as late as its own limits let it be. Uploads, whose bytes are looked at as a whole, and
    predictions, which wait for turns of their own, have limits of their own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, for so long."""
        if scope["type"] != "http" or _has_its_own(scope["path"]):
            await self._app(scope, receive, send)
            return
        begun = False

        async def received() -> Message:
            message = await receive()
            if message.get("body") and not begun:
                limit.deadline = _end()
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            limit.deadline = math.inf
            # What a thread has done by now is told, however late.
            with anyio.CancelScope(shield=True):
                await send(message)

        # Not asyncio's own: that one would give a thread's place away while the thread still works.
        with anyio.CancelScope(deadline=_end()) as limit:
            await self._app(scope, received, sent)
        if limit.cancelled_caught and not begun:
            log.warning("no_answer_in_time")
            await problems.too_late(Request(scope))(scope, receive, send)


def _end() -> float:
    return anyio.current_time() + settings().request_s


def _has_its_own(path: str) -> bool:
    return path.startswith("/v1/uploads") or path.endswith("/predict")
