"""A request without a response is cut off; a started response is not."""

import asyncio
import threading
import time

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.middleware import RequestContextMiddleware, TimeoutMiddleware
from tests.helpers import assert_problem, run_in_thread

LIMIT_S = 0.5


async def wait_forever(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.Event().wait()


async def stream_slowly(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(2 * LIMIT_S)
    await send({"type": "http.response.body", "body": b"late"})


async def raise_timeout(scope: Scope, receive: Receive, send: Send) -> None:
    raise TimeoutError("raised by the route")


def post(
    app: ASGIApp, content: object = None, path: str = "/v1/jobs", limit_s: float = LIMIT_S
) -> httpx.Response:
    async def run_requests() -> httpx.Response:
        transport = httpx.ASGITransport(
            RequestContextMiddleware(TimeoutMiddleware(app, limit_s)), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = content() if callable(content) else None
            return await client.post(path, content=body)

    return run_in_thread(run_requests)


def test_request_without_response_is_a_503() -> None:
    response = post(wait_forever)
    assert_problem(response, 503, "overloaded")
    assert response.headers["retry-after"]


def test_slow_body_extends_the_limit() -> None:
    limit_s = 2.0
    sent_for_s = 0.0

    async def send_slowly() -> object:
        nonlocal sent_for_s
        started = time.monotonic()
        # Far below the limit, so that a busy machine does not reach it between two parts.
        while sent_for_s <= limit_s:
            await asyncio.sleep(limit_s / 100)
            yield b"part"
            sent_for_s = time.monotonic() - started

    assert_problem(post(wait_forever, send_slowly, limit_s=limit_s), 503, "overloaded")
    assert sent_for_s > limit_s


async def work_in_thread(scope: Scope, receive: Receive, send: Send) -> None:
    await anyio.to_thread.run_sync(time.sleep, 2 * LIMIT_S)
    done.append(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


done: list[str] = []


@pytest.mark.parametrize("path", ["/v1/uploads/upl_1/complete", "/v1/models/mdl_1/predict"])
def test_paths_with_separate_limits_are_exempt(path: str) -> None:
    assert post(work_in_thread, path=path).text == "done"
    assert path in done


def test_thread_keeps_its_slot_until_it_ends() -> None:
    num_running = 0
    max_running = 0
    waiting_requests_ended = threading.Event()

    def work() -> None:
        nonlocal num_running, max_running
        num_running += 1
        max_running = max(max_running, num_running)
        assert waiting_requests_ended.wait(60)
        num_running -= 1

    async def run_requests() -> list[int]:
        limiter = anyio.CapacityLimiter(1)

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await anyio.to_thread.run_sync(work, limiter=limiter)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        transport = httpx.ASGITransport(TimeoutMiddleware(slow, LIMIT_S))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            anyio.create_task_group() as group,
        ):
            statuses: list[int] = []

            async def get() -> None:
                statuses.append((await client.get("/v1/jobs")).status_code)
                if len(statuses) == 2:
                    waiting_requests_ended.set()

            for _ in range(3):
                group.start_soon(get)
        return statuses

    # The request whose thread runs gets its late response; the waiting ones get a 503.
    assert sorted(run_in_thread(run_requests)) == [200, 503, 503]
    assert max_running == 1


def test_started_stream_continues() -> None:
    response = post(stream_slowly)
    assert (response.status_code, response.text) == (200, "late")


def test_timeout_error_of_a_route_is_a_500() -> None:
    assert_problem(post(raise_timeout), 500, "internal")
