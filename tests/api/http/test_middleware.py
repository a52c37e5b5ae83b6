"""An unexpected error is a 500 whose request id is in the log."""

import errno

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.helpers import assert_problem, run_in_thread


async def raise_error(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret detail")


def get(app: ASGIApp, path: str) -> httpx.Response:

    async def send_request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={"X-Request-Id": "mine"})

    response: httpx.Response = run_in_thread(send_request)
    return response


def count_errors() -> float:
    labels = {"method": "GET", "route": "none", "status": "500"}
    return REGISTRY.get_sample_value("stillhouse_requests_total", labels) or 0


@pytest.mark.usefixtures("environment")
def test_unexpected_error_is_a_problem_without_details() -> None:
    from api.http.middleware import RequestContextMiddleware

    before = count_errors()
    response = get(RequestContextMiddleware(raise_error), "/v1/jobs")
    document = assert_problem(response, 500, "internal")
    assert document["request_id"] == response.headers["x-request-id"] == "mine"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    assert count_errors() == before + 1


@pytest.fixture
def failing_app(environment: dict[str, str]) -> FastAPI:
    """Routes that fail with errors of the operating system and of the object store."""
    from api.http import problems
    from api.http.middleware import RequestContextMiddleware
    from store import object_store

    app = FastAPI()
    problems.install_handlers(app)
    app.add_middleware(RequestContextMiddleware)

    @app.get("/broken-disk")
    def read_broken_disk() -> None:
        raise OSError(errno.EIO, "a secret detail")

    @app.get("/full-disk")
    def fill_disk() -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    @app.get("/missing-object")
    def read_missing_object() -> None:
        b"".join(object_store.read("no/such/object"))

    return app


def test_other_error_of_the_system_is_internal(failing_app: FastAPI) -> None:
    assert_problem(get(failing_app, "/broken-disk"), 500, "internal")


@pytest.mark.parametrize(
    ("path", "cause"), [("/missing-object", "object store"), ("/full-disk", "disk")]
)
def test_object_store_and_full_disk_are_unavailable(
    failing_app: FastAPI, path: str, cause: str
) -> None:
    response = get(failing_app, path)
    assert cause in assert_problem(response, 503, "storage_unavailable")["detail"]
    assert response.headers["retry-after"]
