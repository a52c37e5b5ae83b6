"""Query strings are as strict as bodies: what a route does not read is refused, not ignored."""

from typing import Any

import httpx
import pytest

from tests.api.operations import fill_path
from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]
Operation = tuple[str, str, Json]


@pytest.fixture(scope="module")
def documented_operations(api_url: str) -> list[Operation]:
    """Method, path and entry of every operation of the OpenAPI document."""
    document = httpx.get(f"{api_url}/openapi.json", timeout=60).raise_for_status().json()
    return [
        (method.upper(), fill_path(path), entry)
        for path, methods in document["paths"].items()
        for method, entry in methods.items()
    ]


def query_names(entry: Json) -> list[str]:
    return [item["name"] for item in entry.get("parameters", []) if item["in"] == "query"]


def test_every_operation_refuses_an_unknown_parameter(
    client: httpx.Client, documented_operations: list[Operation]
) -> None:
    assert len(documented_operations) > 50
    for method, path, _ in documented_operations:
        codes = issue_codes(client.request(method, path, params={"flavor": "1"}))
        assert codes["?flavor"] == "extra_forbidden", (method, path, codes)


def test_every_documented_parameter_is_accepted(
    client: httpx.Client, documented_operations: list[Operation]
) -> None:
    checked = 0
    for method, path, entry in documented_operations:
        for name in query_names(entry):
            response = client.request(method, path, params={name: "1"})
            assert "extra_forbidden" not in response.text, (method, path, name)
            checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("query", "suggestion"),
    [
        ("status=failed", "did you mean `state`?"),
        ("page=2", "did you mean `cursor`?"),
        ("offset=10", "did you mean `cursor`?"),
        ("per_page=10", "did you mean `limit`?"),
        ("created_since=2020-01-01", "did you mean `created_after`?"),
        ("flavor=1", "this route has `after`, `architecture`, `created_after`, `cursor`,"),
    ],
)
def test_unknown_parameter_suggests_the_nearest_name(
    client: httpx.Client, query: str, suggestion: str
) -> None:
    (issue,) = assert_problem(client.get(f"/v1/jobs?limit=3&{query}"), 422)["errors"]
    assert issue["pointer"] == f"?{query.partition('=')[0]}"
    assert issue["code"] == "extra_forbidden"
    assert suggestion in issue["detail"]


def test_one_response_lists_the_issues_of_query_and_body(client: httpx.Client) -> None:
    codes = issue_codes(client.get("/v1/jobs?status=failed&limit=many"))
    assert codes == {"?status": "extra_forbidden", "?limit": "int_parsing"}
    codes = issue_codes(client.get("/v1/jobs?status=failed&label=x"))
    assert codes == {"?status": "extra_forbidden", "?label": "bad_label"}
    codes = issue_codes(client.post("/v1/jobs?validate=true", json={"method": "kd"}))
    assert codes["?validate"] == "extra_forbidden"
    assert codes["/student"] == codes["/dataset"] == "missing"


def test_request_with_an_unknown_parameter_creates_nothing(client: httpx.Client) -> None:
    body = {"filename": "a", "size_bytes": 1, "sha256": "0" * 64}
    key = {"Idempotency-Key": "once"}
    assert_problem(client.post("/v1/uploads?part=1", json=body, headers=key), 422)
    created = client.post("/v1/uploads", json=body, headers=key)
    assert created.status_code == 201
    assert "Idempotent-Replayed" not in created.headers


def test_parameter_with_one_value_may_not_be_repeated(client: httpx.Client) -> None:
    codes = issue_codes(client.get("/v1/jobs?limit=1&limit=2&state=failed&state=queued"))
    assert codes == {"?limit": "repeated"}


def test_value_that_is_no_utf8_is_refused(client: httpx.Client) -> None:
    assert issue_codes(client.get("/v1/jobs?q=%ff&limit=1")) == {"?q": "invalid_utf8"}
    assert client.get("/v1/jobs?q=%EF%BF%BD+%C3%A9").status_code == 200


def test_public_routes_refuse_unknown_parameters(client: httpx.Client) -> None:
    for path in ("/", "/login", "/healthz", "/readyz", "/metrics"):
        assert issue_codes(client.get(f"{path}?x=1")) == {"?x": "extra_forbidden"}, path


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-29T06:00:00+02:00",
        "2026-11-29T06:00:00%2B02:00",
        "2026-11-29T06:00:00Z",
        "2026-11-29 06:00+0200",
        "2026-11-29T06:00:00.5-02:00",
    ],
)
def test_time_may_have_a_raw_plus(client: httpx.Client, time: str) -> None:
    assert client.get(f"/v1/jobs?created_after={time}").status_code == 200


def test_time_without_an_offset_is_refused(client: httpx.Client) -> None:
    for time in ("2026-11-29T06:00:00", "2026-11-29 06:00", "2026-11-29", "02:00"):
        codes = issue_codes(client.get(f"/v1/jobs?created_after={time}"))
        assert set(codes) == {"?created_after"}, time


def test_raw_plus_selects_the_same_jobs(client: httpx.Client, digits: Json) -> None:
    """12:00+02:00 is 10:00 in UTC, so a job of 11:00 in UTC is later."""
    from sqlalchemy import update

    from store.database import transaction
    from store.tables import Job
    from tests.helpers import submit_job

    job = submit_job(client, digits, method="supervised")
    with transaction() as session:
        time = "2026-11-29T11:00:00Z"
        session.execute(update(Job).where(Job.id == job["id"]).values(created_at=time))
    for offset, count in (("+02:00", 1), ("%2B02:00", 1), ("-02:00", 0)):
        page = client.get(f"/v1/jobs?created_after=2026-11-29T12:00:00{offset}").json()
        assert len(page["data"]) == count, offset


def test_thousands_of_parameters_are_counted_at_once() -> None:
    import time

    from starlette.requests import Request

    from api.http.query import MAX_ISSUES, find_query_issues

    query = "&".join(f"{index:x}=" for index in range(20_000)).encode()
    request = Request({"type": "http", "query_string": query, "headers": []})
    start = time.process_time()
    *issues, last = find_query_issues(request, {"limit": False})
    assert time.process_time() - start < 1  # 5 s if each name reads the whole query
    assert len(issues) == MAX_ISSUES
    assert (last.code, last.detail) == (
        "too_many_issues",
        "19,900 more query parameters are invalid",
    )
