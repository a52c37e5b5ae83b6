"""Lists have the same form; pages miss and repeat no row while new rows arrive."""

import re
from typing import Any

import httpx
import pytest

from tests.api.operations import operations
from tests.helpers import issue_codes, job_body, list_pages, submit_job

Json = dict[str, Any]
SINGLE = {"metrics", "logs", "report", "student", "content", "weights"}
SINGLE |= {"compare", "frontier", "images", "usage"}  # not in pages


def list_paths() -> list[str]:
    """The paths of all lists."""
    return [
        path
        for method, path in operations()
        if method == "GET" and not path.endswith("}") and path.rpartition("/")[2] not in SINGLE
    ]


def test_known_lists_are_covered() -> None:
    last = {path.rpartition("/")[2] for path in list_paths()}
    assert {"methods", "schemes", "architectures", "datasets", "models", "jobs"} <= last
    assert {"runs", "events", "checkpoints", "artifacts", "projects"} <= last


@pytest.mark.parametrize("path", list_paths())
def test_lists_have_the_same_form(client: httpx.Client, digits: Json, path: str) -> None:
    path = path.replace("{job_id}", submit_job(client, digits)["id"])
    page = client.get(path).raise_for_status().json()
    assert set(page) == {"data", "next_cursor"}
    assert client.get(path, params={"limit": 10**9}).status_code == 200
    for limit in (0, -1, "x", 1.5, ""):
        assert set(issue_codes(client.get(path, params={"limit": limit}))) == {"?limit"}
    for cursor in ("x", "", "é", "a" * 60, "/+=="):
        assert issue_codes(client.get(path, params={"cursor": cursor})) == {"?cursor": "bad_cursor"}


def test_pages_neither_miss_nor_repeat_jobs(client: httpx.Client, digits: Json) -> None:
    first = [submit_job(client, digits, name=f"job {number}")["id"] for number in range(7)]
    for sort, order in (("-created_at", first[::-1]), ("created_at", first)):
        ids: list[str] = []
        for page in list_pages(client, "/v1/jobs", limit=2, sort=sort, label="new:no", q="job "):
            ids += [row["id"] for row in page]
        assert ids == []
        for page in list_pages(client, "/v1/jobs", limit=2, sort=sort, q="job "):
            ids += [row["id"] for row in page]
            submit_job(client, digits, name="another")
        assert ids == order


def test_queue_is_listed_in_start_order(client: httpx.Client, digits: Json) -> None:
    priorities = {"low": -1, "first": 0, "second": 0, "high": 7}
    for name, priority in priorities.items():
        submit_job(client, digits, name=name, priority=priority)
    names: list[str] = []
    for page in list_pages(client, "/v1/jobs", limit=1, sort="queue", state="queued"):
        names += [row["name"] for row in page]
    assert names == ["high", "first", "second", "low"]


def test_new_rows_do_not_shift_pages(client: httpx.Client, digits: Json) -> None:
    first = [submit_job(client, digits)["id"] for _ in range(5)]
    ids: list[str] = []
    for page in list_pages(client, "/v1/jobs", limit=2):
        ids += [row["id"] for row in page]
        submit_job(client, digits)
    assert ids == first[::-1]


def test_cursor_is_url_safe_signed_and_bound_to_its_list(
    client: httpx.Client, digits: Json
) -> None:
    for _ in range(3):
        submit_job(client, digits)
    cursor = client.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    assert client.get("/v1/jobs", params={"cursor": cursor, "limit": 200}).status_code == 200
    for position in range(0, len(cursor), 7):
        other = "A" if cursor[position] != "A" else "B"
        tampered = cursor[:position] + other + cursor[position + 1 :]
        assert issue_codes(client.get("/v1/jobs", params={"cursor": tampered}))
    for last in "ABCDEFGHabcdefgh0189_-":
        if last != cursor[-1]:
            tampered = cursor[:-1] + last
            assert issue_codes(client.get("/v1/jobs", params={"cursor": tampered})), last
    for path, query in (
        ("/v1/models", {}),
        ("/v1/methods", {}),
        ("/v1/jobs", {"state": "queued"}),
        ("/v1/jobs", {"sort": "created_at"}),
    ):
        response = client.get(path, params={**query, "cursor": cursor})
        assert issue_codes(response) == {"?cursor": "bad_cursor"}


def test_last_page_has_a_null_cursor(client: httpx.Client, digits: Json) -> None:
    for _ in range(2):
        submit_job(client, digits)
    page = client.get("/v1/jobs", params={"limit": 2}).json()
    assert (len(page["data"]), page["next_cursor"]) == (2, None)


def test_page_has_at_most_200_rows(client: httpx.Client, digits: Json) -> None:
    events_url = submit_job(client, digits)["links"]["events"]
    from sqlalchemy import select

    from store import event_log
    from store.database import transaction
    from store.tables import Job

    with transaction() as session:
        row = session.scalars(select(Job).where(Job.id == events_url.split("/")[3])).one()
        for number in range(210):
            event_log.append(session, row, "log", {"message": str(number)})
    sizes = [len(page) for page in list_pages(client, events_url, limit=10**9)]
    assert sizes == [200, 11]
    assert [len(page) for page in list_pages(client, events_url)] == [50, 50, 50, 50, 11]


@pytest.mark.parametrize("path", ["methods", "schemes", "architectures"])
def test_catalog_is_sorted_by_name(client: httpx.Client, path: str) -> None:
    names = [entry["name"] for page in list_pages(client, f"/v1/{path}", limit=2) for entry in page]
    assert names
    assert names == sorted(names)
    for name in names:
        assert client.get(f"/v1/{path}/{name}").json()["name"] == name


def test_filter_applies_to_every_page(client: httpx.Client, digits: Json) -> None:
    for number in range(6):
        submit_job(client, digits, labels={"team": "a" if number % 2 else "b"})
    jobs = [job for page in list_pages(client, "/v1/jobs", limit=1, label="team:a") for job in page]
    assert [job["labels"]["team"] for job in jobs] == ["a"] * 3
    assert job_body(digits)


def test_row_that_cannot_be_shown_leaves_the_others(environment: Any) -> None:
    from api.http.pagination import serialize_rows
    from store.tables import Project

    rows = [Project(id=f"prj_{number}", name=f"{number}") for number in range(3)]

    def serialize(row: Project) -> dict[str, int]:
        return {"value": 10 // int(row.name)}

    page = serialize_rows(rows, serialize)
    assert page.items == [{"value": 10}, {"value": 5}]
    assert page.remark() == {"unreadable": ["prj_0"]}
    assert serialize_rows(rows[1:], serialize).remark() == {}
