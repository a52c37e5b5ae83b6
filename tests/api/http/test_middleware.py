"""What nobody has thought of is an honest 500 that can be found in the log."""

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tests.helpers import assert_problem, run_in_thread


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret detail")


@pytest.mark.usefixtures("environment")
def test_a_500_is_a_problem_document_with_a_request_id_and_nothing_of_the_fault() -> None:
    from api.http.middleware import REQUEST_COUNT, RequestContextMiddleware

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(
            RequestContextMiddleware(raising), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/v1/jobs", headers={"X-Request-Id": "mine"})

    counted = REQUEST_COUNT.labels("GET", "none", 500)
    before = counted._value.get()
    answer = run_in_thread(ask)
    document = assert_problem(answer, 500, "internal")
    assert document["request_id"] == answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    assert counted._value.get() == before + 1
