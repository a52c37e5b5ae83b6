"""A request has an answer in its time; what has begun to be answered may take longer."""

import asyncio
import time

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.helpers import assert_problem, run_in_thread

LIMIT_S = 0.5


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

    monkeypatch.setattr(settings(), "request_timeout_s", LIMIT_S)


def asked(app: ASGIApp, content: object = None, path: str = "/v1/jobs") -> httpx.Response:
    from api.http.middleware import RequestContextMiddleware
    from api.http.timeout import TimeoutMiddleware

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(
            RequestContextMiddleware(TimeoutMiddleware(app)), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            sent = content() if callable(content) else None
            return await client.post(path, content=sent)

    return run_in_thread(ask)


def test_what_waits_for_ever_is_told_to_come_again() -> None:
    answer = asked(waits)
    assert_problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"]


def test_a_body_may_come_slowly() -> None:
    came = 0

    async def slow() -> object:
        nonlocal came
        for _ in range(15):
            await asyncio.sleep(LIMIT_S / 10)
            came += 1
            yield b"part"

    assert_problem(asked(waits, slow), 503, "overloaded")
    assert came == 15


async def works(scope: Scope, receive: Receive, send: Send) -> None:
    await anyio.to_thread.run_sync(time.sleep, 2 * LIMIT_S)
    done.append(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


done: list[str] = []


@pytest.mark.parametrize("path", ["/v1/uploads/upl_1/complete", "/v1/models/mdl_1/predict"])
def test_what_has_limits_of_its_own_is_not_cut(path: str) -> None:
    assert asked(works, path=path).text == "done"
    assert path in done


def test_a_threads_place_is_not_given_away_while_it_works() -> None:
    at_work = 0
    most = 0

    def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(3 * LIMIT_S)
        at_work -= 1

    async def ask() -> list[int]:
        from api.http.timeout import TimeoutMiddleware

        places = anyio.CapacityLimiter(1)

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await anyio.to_thread.run_sync(work, limiter=places)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        transport = httpx.ASGITransport(TimeoutMiddleware(slow))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://here") as client,
            anyio.create_task_group() as group,
        ):
            found: list[int] = []

            async def one() -> None:
                found.append((await client.get("/v1/jobs")).status_code)

            for _ in range(3):
                group.start_soon(one)
        return found

    # The one that a thread works on is answered late, the others are told to come again.
    assert sorted(run_in_thread(ask)) == [200, 503, 503]
    assert most == 1


def test_a_stream_that_has_begun_goes_on() -> None:
    answer = asked(streams)
    assert (answer.status_code, answer.text) == (200, "late")


def test_a_timeout_of_its_own_is_no_late_answer() -> None:
    assert_problem(asked(fails), 500, "internal")
