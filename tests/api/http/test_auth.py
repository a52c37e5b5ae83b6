"""Everything under /v1 requires a key; keys, codes and cookies are stored as digests."""

import hashlib

import httpx
import pytest
from sqlalchemy import func, select

from store.access import credentials, login_link
from store.database import transaction
from store.tables import ApiKey, DashboardSession, LoginCode, Project
from tests.api.operations import fill_path, operations
from tests.helpers import assert_problem


def test_every_documented_operation_is_a_route(api_url: str) -> None:
    paths = httpx.get(f"{api_url}/openapi.json", timeout=60).json()["paths"]
    documented = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1")
    }
    routes = {(method, path.replace(":path", "")) for method, path in operations()}
    assert len(documented) > 30
    assert documented <= routes


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer rubbish"}])
def test_every_operation_requires_a_key(api_url: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=api_url, headers=headers) as anonymous_client:
        for method, path in operations():
            response = anonymous_client.request(method, fill_path(path), content=b"{")
            assert assert_problem(response, 401)["code"] == "unauthorized", (method, path)
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Basic c3RrOnN0aw==", "Bearer \xff", "Bearer " + "k" * 9000]
)
def test_malformed_key_is_rejected(api_url: str, sent: str) -> None:
    headers = {"Authorization": sent.encode("latin-1")}
    assert_problem(httpx.get(f"{api_url}/v1/jobs", headers=headers), 401)


def test_only_the_digest_of_a_key_is_stored(tenant) -> None:
    with transaction() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.project_id == tenant.id)).one()
        assert row.digest == hashlib.sha256(tenant.key.encode()).digest()
        text = session.scalar(select(func.row_to_json(ApiKey.__table__.table_valued())))
    assert tenant.key not in str(text)


def test_key_without_the_scope_is_rejected(api_url: str, tenant) -> None:
    with transaction() as session:
        key = credentials.create_key(session, tenant.id, "reader", ("jobs:read",))
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{api_url}/v1/jobs", headers=headers).status_code == 200
    for path in ("jobs", "datasets", "models", "uploads", "projects"):
        response = httpx.post(f"{api_url}/v1/{path}", headers=headers, json={})
        assert_problem(response, 403, "scope_missing")


@pytest.fixture
def browser(api_url: str, tenant):
    """A client that has logged in with a login code of this test's project."""
    with transaction() as session:
        key_id = session.scalars(select(ApiKey.id).where(ApiKey.project_id == tenant.id)).one()
        code = credentials.create_login_code(session, key_id)
    with httpx.Client(base_url=api_url) as client:
        client.code = code
        response = client.get("/login", params={"code": code})
        assert (response.status_code, response.headers["location"]) == (303, "/")
        assert "httponly" in response.headers["set-cookie"].lower()
        assert "samesite=strict" in response.headers["set-cookie"].lower()
        yield client


def test_login_code_works_once(browser, api_url: str) -> None:
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
def test_change_by_cookie_requires_the_same_origin(browser, headers, allowed) -> None:
    host = browser.base_url.netloc.decode()
    formatted_headers = {name: value.format(host=host) for name, value in headers.items()}
    response = browser.post("/v1/projects", json={"name": "by cookie"}, headers=formatted_headers)
    if allowed:
        assert response.status_code == 201
    else:
        assert_problem(response, 403, "cross_origin")


def test_logout_ends_the_session(browser) -> None:
    cookie = browser.cookies["stillhouse_session"]
    response = browser.delete("/session", headers={"Sec-Fetch-Site": "same-origin"})
    assert response.status_code == 204
    response = httpx.get(
        browser.base_url.join("/v1/jobs"), headers={"Cookie": f"stillhouse_session={cookie}"}
    )
    assert_problem(response, 401)


def test_login_needs_a_valid_key(api_url: str, tenant) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    response = httpx.post(f"{api_url}/session", headers=headers, json={"api_key": tenant.key})
    assert response.status_code == 200
    assert "stillhouse_session" in response.cookies
    for body in (b"{", b"", b"null", b"[]", b'{"api_key": 1}', b'{"api_key": "\\ud800"}', b"\xff"):
        response = httpx.post(f"{api_url}/session", headers=headers, content=body)
        assert assert_problem(response, response.status_code)["status"] in (400, 401, 422), body
        assert "set-cookie" not in response.headers


def test_login_link_belongs_to_the_first_admin_key(api_url: str, tenant) -> None:
    address = login_link.login_link(api_url)
    with httpx.Client() as client:
        client.get(address)
        assert client.get(f"{api_url}/v1/jobs").status_code == 200


def test_key_of_a_new_project_works_and_is_not_stored(client) -> None:
    headers = {"Idempotency-Key": "project"}
    response = client.post("/v1/projects", json={"name": "new"}, headers=headers)
    assert response.status_code == 201
    new_headers = {"Authorization": f"Bearer {response.json()['api_key']}"}
    assert client.get("/v1/jobs", headers=new_headers).json() == {"data": [], "next_cursor": None}
    project = client.get(response.headers["location"])
    assert project.json()["name"] == "new"
    assert project.json().get("api_key") is None
    again = client.post("/v1/projects", json={"name": "new"}, headers=headers)
    assert again.content == response.content
    assert _dump_database().count(response.json()["api_key"]) == 0


def _dump_database() -> str:
    with transaction() as session:
        tables = Project.metadata.sorted_tables
        return "".join(str(row) for table in tables for row in session.execute(select(table)).all())
