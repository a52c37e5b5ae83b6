"""Everything under /v1 wants a key; keys, codes and cookies are stored as digests only."""

import hashlib
import re

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import func, select

from api.app import create_app
from store.access import credentials, login_link
from store.database import transaction
from store.ids import new_id
from store.tables import ApiKey, DashboardSession, LoginCode, Project
from tests.helpers import assert_problem

SAMPLES = {
    "job_id": new_id("job"),
    "dataset_id": new_id("ds"),
    "model_id": new_id("mdl"),
    "upload_id": new_id("upl"),
    "artifact_id": new_id("art"),
    "project_id": new_id("prj"),
    "key_id": new_id("key"),
    "checkpoint_id": new_id("ckp"),
    "cache_id": new_id("tch"),
    "number": "1",
    "name": "kd",
}


def operations() -> list[tuple[str, str]]:
    """Every method and path that the application answers under /v1, mounted routers included."""
    found = set()
    for context in iter_route_contexts(create_app().routes):
        path = getattr(context, "path", None) or getattr(context.route, "path", "")
        for method in getattr(context, "methods", None) or ():
            if path.startswith("/v1"):
                found.add((method, path))
    return sorted(found)


def filled(path: str) -> str:
    return re.sub(r"{(\w+)(:path)?}", lambda match: SAMPLES[match[1]], path)


def test_every_operation_of_the_description_is_found(api_url: str) -> None:
    described = httpx.get(f"{api_url}/openapi.json", timeout=60).json()["paths"]
    told = {
        (method.upper(), path)
        for path, methods in described.items()
        for method in methods
        if path.startswith("/v1")
    }
    found = {(method, path.replace(":path", "")) for method, path in operations()}
    assert len(told) > 30
    assert told <= found


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer rubbish"}])
def test_every_operation_wants_a_key(api_url: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=api_url, headers=headers) as nobody:
        for method, path in operations():
            answer = nobody.request(method, filled(path), content=b"{")
            assert assert_problem(answer, 401)["code"] == "unauthorized", (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Basic c3RrOnN0aw==", "Bearer \xff", "Bearer " + "k" * 9000]
)
def test_a_malformed_key_is_nobodys(api_url: str, sent: str) -> None:
    headers = {"Authorization": sent.encode("latin-1")}
    assert_problem(httpx.get(f"{api_url}/v1/jobs", headers=headers), 401)


def test_only_the_digest_of_a_key_is_stored(tenant) -> None:
    with transaction() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.project_id == tenant.id)).one()
        assert row.digest == hashlib.sha256(tenant.key.encode()).digest()
        text = session.scalar(select(func.row_to_json(ApiKey.__table__.table_valued())))
    assert tenant.key not in str(text)


def test_a_key_without_the_scope_is_told_so(api_url: str, tenant) -> None:
    with transaction() as session:
        key = credentials.create_key(session, tenant.id, "reader", ("jobs:read",))
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{api_url}/v1/jobs", headers=headers).status_code == 200
    for path in ("jobs", "datasets", "models", "uploads", "projects"):
        answer = httpx.post(f"{api_url}/v1/{path}", headers=headers, json={})
        assert_problem(answer, 403, "scope_missing")


@pytest.fixture
def browser(api_url: str, tenant):
    """A browser that has used a one-time address of this test's project."""
    with transaction() as session:
        key_id = session.scalars(select(ApiKey.id).where(ApiKey.project_id == tenant.id)).one()
        code = credentials.create_login_code(session, key_id)
    with httpx.Client(base_url=api_url) as client:
        client.code = code
        answer = client.get("/login", params={"code": code})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        yield client


def test_a_code_logs_in_and_only_once(browser, api_url: str) -> None:
    assert browser.get("/v1/jobs").status_code == 200
    again = httpx.get(f"{api_url}/login", params={"code": browser.code})
    assert "set-cookie" not in again.headers
    assert again.headers["location"] != "/"


def test_only_digests_of_codes_and_cookies_are_stored(browser) -> None:
    cookie = browser.cookies["stillhouse_session"]
    with transaction() as session:
        digests = set(session.scalars(select(DashboardSession.digest)))
        assert hashlib.sha256(cookie.encode()).digest() in digests
        assert session.get(LoginCode, hashlib.sha256(browser.code.encode()).digest()) is None


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://["}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://{host}"}, True),
    ],
)
def test_a_change_by_cookie_must_come_from_our_pages(browser, headers, allowed) -> None:
    host = browser.base_url.netloc.decode()
    filled_in = {name: value.format(host=host) for name, value in headers.items()}
    answer = browser.post("/v1/projects", json={"name": "by cookie"}, headers=filled_in)
    if allowed:
        assert answer.status_code == 201
    else:
        assert_problem(answer, 403, "cross_origin")


def test_logging_out_ends_the_login(browser) -> None:
    cookie = browser.cookies["stillhouse_session"]
    answer = browser.delete("/session", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 204
    answer = httpx.get(
        browser.base_url.join("/v1/jobs"), headers={"Cookie": f"stillhouse_session={cookie}"}
    )
    assert_problem(answer, 401)


def test_a_key_logs_in_and_rubbish_does_not(api_url: str, tenant) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    answer = httpx.post(f"{api_url}/session", headers=own, json={"api_key": tenant.key})
    assert answer.status_code == 200
    assert "stillhouse_session" in answer.cookies
    for body in (b"{", b"", b"null", b"[]", b'{"api_key": 1}', b'{"api_key": "\\ud800"}', b"\xff"):
        answer = httpx.post(f"{api_url}/session", headers=own, content=body)
        assert assert_problem(answer, answer.status_code)["status"] in (400, 401, 422), body
        assert "set-cookie" not in answer.headers


def test_the_printed_address_belongs_to_the_first_admin_key(api_url: str, tenant) -> None:
    address = login_link.login_link(api_url)
    with httpx.Client() as client:
        client.get(address)
        assert client.get(f"{api_url}/v1/jobs").status_code == 200


def test_an_admin_creates_a_project_whose_key_works_and_is_not_kept(client) -> None:
    headers = {"Idempotency-Key": "project"}
    answer = client.post("/v1/projects", json={"name": "new"}, headers=headers)
    assert answer.status_code == 201
    own = {"Authorization": f"Bearer {answer.json()['api_key']}"}
    assert client.get("/v1/jobs", headers=own).json() == {"data": [], "next_cursor": None}
    found = client.get(answer.headers["location"])
    assert found.json()["name"] == "new"
    assert found.json().get("api_key") is None
    again = client.post("/v1/projects", json={"name": "new"}, headers=headers)
    assert again.content == answer.content
    assert _whole_database().count(answer.json()["api_key"]) == 0


def _whole_database() -> str:
    with transaction() as session:
        tables = Project.metadata.sorted_tables
        return "".join(str(row) for table in tables for row in session.execute(select(table)).all())
