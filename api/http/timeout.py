"""Every request has an answer in its time, also where many wait for the same thing in a row."""

import math

import anyio
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import problems
from store.settings import settings

log = structlog.get_logger()


class TimeoutMiddleware:
    """ASGI middleware that ends a request which has no answer; a stream that has begun may go on.

    The time counts from the last byte that came. What a thread has begun it ends: the answer is
    then as late as its own limits let it be. Uploads, whose bytes are looked at as a whole, and
    predictions, which wait for turns of their own, have limits of their own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, for so long."""
        if scope["type"] != "http" or _has_separate_limit(scope["path"]):
            await self._app(scope, receive, send)
            return
        response_started = False

        async def receive_with_deadline() -> Message:
            message = await receive()
            if message.get("body") and not response_started:
                limit.deadline = _deadline()
            return message

        async def send_without_deadline(message: Message) -> None:
            nonlocal response_started
            response_started = True
            limit.deadline = math.inf
            # What a thread has done by now is told, however late.
            with anyio.CancelScope(shield=True):
                await send(message)

        # Not asyncio's own: that one would give a thread's place away while the thread still works.
        with anyio.CancelScope(deadline=_deadline()) as limit:
            await self._app(scope, receive_with_deadline, send_without_deadline)
        if limit.cancelled_caught and not response_started:
            log.warning("request_timed_out")
            await problems.timeout_response(Request(scope))(scope, receive, send)


def _deadline() -> float:
    return anyio.current_time() + settings().request_timeout_s


def _has_separate_limit(path: str) -> bool:
    return path.startswith("/v1/uploads") or path.endswith("/predict")
