"""Request timeout: a 503 for every request that has no response within ``request_timeout_s``."""

import math

import anyio
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import problems
from store.settings import settings

log = structlog.get_logger()


class TimeoutMiddleware:
    """ASGI middleware that cancels a request without a response; a started response may continue.

    The time counts from the last byte of the request's body. A thread cannot be cancelled: its
    response is sent when the thread ends, bounded by the timeouts of the database and the object
    store. Uploads and predictions are exempt because they have separate limits.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and cancel it after the time limit."""
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
            # The work of a thread is done by now, so its response is sent even after the limit.
            with anyio.CancelScope(shield=True):
                await send(message)

        # asyncio.timeout would free the slot of a thread in anyio's limiter before the thread ends.
        with anyio.CancelScope(deadline=_deadline()) as limit:
            await self._app(scope, receive_with_deadline, send_without_deadline)
        if limit.cancelled_caught and not response_started:
            log.warning("request_timed_out")
            await problems.timeout_response(Request(scope))(scope, receive, send)


def _deadline() -> float:
    return anyio.current_time() + settings().request_timeout_s


def _has_separate_limit(path: str) -> bool:
    return path.startswith("/v1/uploads") or path.endswith("/predict")
