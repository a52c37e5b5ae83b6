"""Middleware of every request: request id, headers, access log, metrics, timeout, HEAD."""

import math
import re
import time
import uuid

import anyio
import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import problems
from store.settings import settings

log = structlog.get_logger()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REQUEST_COUNT = Counter("stillhouse_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "stillhouse_request_seconds", "Time until the response starts", ["method", "route"]
)


class RequestContextMiddleware:
    """ASGI middleware: outermost, so that every response has a request id and is logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; add headers to its response and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_request_id = Headers(scope=scope).get("x-request-id", "")
        request_id = (
            client_request_id if _REQUEST_ID.match(client_request_id) else f"req_{uuid.uuid4().hex}"
        )
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start = time.perf_counter()
        response_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal response_started
            if message["type"] == "http.response.start":
                response_started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                # Browsers cache the dashboard's files and revalidate them by entity tag.
                static = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
                _record(scope, message["status"], time.perf_counter() - start)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:  # every request gets a response, and every bug is logged
            log.exception("unexpected_error")
            if response_started:
                raise  # the client must notice that the response is incomplete
            await problems.internal_error_response(Request(scope))(
                scope, receive, send_with_headers
            )


def _record(scope: Scope, status: int, seconds: float) -> None:
    # The route's pattern instead of the path, which would create one time series for each id.
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUEST_COUNT.labels(method, route, status).inc()
    REQUEST_SECONDS.labels(method, route).observe(seconds)
    duration_ms = round(seconds * 1000, 1)
    log.info(
        "request_completed", method=method, route=route, status=status, duration_ms=duration_ms
    )


class HeadMiddleware:
    """ASGI middleware that serves HEAD wherever GET works: the same headers without a body.

    The application sees a GET, which is cancelled when its headers are known: no file is read and
    no stream runs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, with GET instead of HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        get_scope = dict(scope, method="GET")

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["route"] = get_scope.get("route")  # for the access log
                await send(message)
                await send({"type": "http.response.body"})
                request.cancel()

        with anyio.CancelScope() as request:
            await self._app(get_scope, receive, send_headers)


class TimeoutMiddleware:
    """ASGI middleware that cancels a request without a response; a started response may continue.

    The time counts from the last byte of the request's body. A thread cannot be cancelled: its
    response is sent when the thread ends, bounded by the timeouts of the database and the object
    store. Uploads and predictions are exempt because they have separate limits.
    """

    def __init__(self, app: ASGIApp, limit_s: float | None = None) -> None:
        self._app = app
        self._limit_s = limit_s
        """None for the limit of the settings."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and cancel it after the time limit."""
        if scope["type"] != "http" or _has_separate_limit(scope["path"]):
            await self._app(scope, receive, send)
            return
        response_started = False

        async def receive_with_deadline() -> Message:
            message = await receive()
            if message.get("body") and not response_started:
                limit.deadline = self._deadline()
            return message

        async def send_without_deadline(message: Message) -> None:
            nonlocal response_started
            response_started = True
            limit.deadline = math.inf
            # The work of a thread is done by now, so its response is sent even after the limit.
            with anyio.CancelScope(shield=True):
                await send(message)

        # asyncio.timeout would free the slot of a thread in anyio's limiter before the thread ends.
        with anyio.CancelScope(deadline=self._deadline()) as limit:
            await self._app(scope, receive_with_deadline, send_without_deadline)
        if limit.cancelled_caught and not response_started:
            log.warning("request_timed_out")
            await problems.timeout_response(Request(scope))(scope, receive, send)

    def _deadline(self) -> float:
        limit_s = settings().request_timeout_s if self._limit_s is None else self._limit_s
        return anyio.current_time() + limit_s


def _has_separate_limit(path: str) -> bool:
    return path.startswith("/v1/uploads") or path.endswith("/predict")
