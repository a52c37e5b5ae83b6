"""A request has an answer in its time; what has begun to be answered may take longer."""

import asyncio

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.sending import in_a_thread, problem

LIMIT_S = 0.2


async def waits(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.Event().wait()


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(2 * LIMIT_S)
    await send({"type": "http.response.body", "body": b"late"})


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise TimeoutError("its own")


@pytest.fixture(autouse=True)
def short(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from store.settings import settings

    monkeypatch.setattr(settings(), "request_s", LIMIT_S)


def asked(app: ASGIApp, content: object = None) -> httpx.Response:
    from api.deadline import Deadline
    from api.middleware import Frame

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Frame(Deadline(app)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            sent = content() if callable(content) else None
            return await client.post("/v1/jobs", content=sent)

    return in_a_thread(ask)


def test_what_waits_for_ever_is_told_to_come_again() -> None:
    answer = asked(waits)
    problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"]


def test_a_body_may_come_slowly() -> None:
    came = 0

    async def slow() -> object:
        nonlocal came
        for _ in range(6):
            await asyncio.sleep(LIMIT_S / 2)
            came += 1
            yield b"part"

    problem(asked(waits, slow), 503, "overloaded")
    assert came == 6


def test_a_stream_that_has_begun_goes_on() -> None:
    answer = asked(streams)
    assert (answer.status_code, answer.text) == (200, "late")


def test_a_timeout_of_its_own_is_no_late_answer() -> None:
    problem(asked(fails), 500, "internal")
