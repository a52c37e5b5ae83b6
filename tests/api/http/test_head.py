"""HEAD works wherever GET does: the same status and headers, and no body."""

import httpx
import pytest

PATHS = ["/v1/jobs", "/v1/methods/kd", "/healthz", "/metrics", "/openapi.json", "/"]


@pytest.mark.parametrize("path", [*PATHS, "/static/js/dom.js"])
def test_head_has_the_headers_of_get(client: httpx.Client, path: str) -> None:
    # Without compression the length is the same for both; /metrics counts the requests themselves.
    headers = {"Accept-Encoding": "identity"}
    response, expected = (client.request(name, path, headers=headers) for name in ("HEAD", "GET"))
    assert (response.status_code, response.content) == (200, b"")
    for name in ("content-type", "etag", "content-length"):
        if (path, name) != ("/metrics", "content-length"):
            assert response.headers.get(name) == expected.headers.get(name), name
    assert response.headers["x-content-type-options"] == "nosniff"


def test_head_of_an_error_is_that_of_get(client: httpx.Client) -> None:
    assert client.head("/v1/jobs/job_x").status_code == 404
    assert client.head("/v1/jobs?status=failed").status_code == 422
    response = client.head("/v1/jobs", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.content) == (401, b"")


def test_head_without_a_get_is_refused(client: httpx.Client) -> None:
    assert client.head("/v1/jobs/job_x/cancel").status_code == 405


def test_head_of_a_stream_ends(client: httpx.Client) -> None:
    response = client.head("/v1/jobs", headers={"Accept": "text/event-stream"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


def test_head_revalidates_by_entity_tag(client: httpx.Client) -> None:
    etag = client.get("/v1/methods/kd").headers["etag"]
    assert client.head("/v1/methods/kd", headers={"If-None-Match": etag}).status_code == 304


def test_connection_serves_requests_after_a_head(client: httpx.Client) -> None:
    """A body after the headers of a HEAD would be read as the next response."""
    for _ in range(3):
        client.head("/v1/methods")
        assert client.get("/healthz").json() == {"status": "ok"}
