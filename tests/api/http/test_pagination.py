"""Every list is pages of one form; no row is missed or told twice while others come."""

import re
from typing import Any

import httpx
import pytest

from tests.api.test_keys import operations
from tests.helpers import issue_codes, job_body, list_pages, submit_job

Json = dict[str, Any]
SINGLE = {"metrics", "logs", "report", "student", "content", "weights"}
SINGLE |= {"compare", "frontier", "images", "usage"}  # whole in one answer


def lists() -> list[str]:
    """The paths of all lists."""
    return [
        path
        for method, path in operations()
        if method == "GET" and not path.endswith("}") and path.rpartition("/")[2] not in SINGLE
    ]


def test_all_lists_are_known() -> None:
    last = {path.rpartition("/")[2] for path in lists()}
    assert {"methods", "schemes", "architectures", "datasets", "models", "jobs"} <= last
    assert {"runs", "events", "checkpoints", "artifacts", "projects"} <= last


@pytest.mark.parametrize("path", lists())
def test_a_list_has_one_form(client: httpx.Client, digits: Json, path: str) -> None:
    path = path.replace("{job_id}", submit_job(client, digits)["id"])
    page = client.get(path).raise_for_status().json()
    assert set(page) == {"data", "next_cursor"}
    assert client.get(path, params={"limit": 10**9}).status_code == 200
    for limit in (0, -1, "x", 1.5, ""):
        assert set(issue_codes(client.get(path, params={"limit": limit}))) == {"?limit"}
    for cursor in ("x", "", "é", "a" * 60, "/+=="):
        assert issue_codes(client.get(path, params={"cursor": cursor})) == {"?cursor": "bad_cursor"}


def test_pages_neither_miss_nor_repeat_while_jobs_come(client: httpx.Client, digits: Json) -> None:
    first = [submit_job(client, digits, name=f"job {number}")["id"] for number in range(7)]
    for sort, order in (("-created_at", first[::-1]), ("created_at", first)):
        found: list[str] = []
        for page in list_pages(client, "/v1/jobs", limit=2, sort=sort, label="new:no", q="job "):
            found += [each["id"] for each in page]
        assert found == []
        for page in list_pages(client, "/v1/jobs", limit=2, sort=sort, q="job "):
            found += [each["id"] for each in page]
            submit_job(client, digits, name="another")
        assert found == order


def test_queue_is_listed_in_the_order_of_its_start(client: httpx.Client, digits: Json) -> None:
    asked = {"low": -1, "first": 0, "second": 0, "high": 7}
    for name, priority in asked.items():
        submit_job(client, digits, name=name, priority=priority)
    found: list[str] = []
    for page in list_pages(client, "/v1/jobs", limit=1, sort="queue", state="queued"):
        found += [each["name"] for each in page]
    assert found == ["high", "first", "second", "low"]


def test_new_rows_do_not_move_the_pages(client: httpx.Client, digits: Json) -> None:
    first = [submit_job(client, digits)["id"] for _ in range(5)]
    found: list[str] = []
    for page in list_pages(client, "/v1/jobs", limit=2):
        found += [each["id"] for each in page]
        submit_job(client, digits)
    assert found == first[::-1]


def test_a_cursor_is_url_safe_signed_and_of_one_list(client: httpx.Client, digits: Json) -> None:
    for _ in range(3):
        submit_job(client, digits)
    cursor = client.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    assert client.get("/v1/jobs", params={"cursor": cursor, "limit": 200}).status_code == 200
    for place in range(0, len(cursor), 7):
        other = "A" if cursor[place] != "A" else "B"
        tampered = cursor[:place] + other + cursor[place + 1 :]
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
        answer = client.get(path, params={**query, "cursor": cursor})
        assert issue_codes(answer) == {"?cursor": "bad_cursor"}


def test_the_end_is_told_by_a_null_cursor_only(client: httpx.Client, digits: Json) -> None:
    for _ in range(2):
        submit_job(client, digits)
    page = client.get("/v1/jobs", params={"limit": 2}).json()
    assert (len(page["data"]), page["next_cursor"]) == (2, None)


def test_a_page_has_at_most_200_rows(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["events"]
    from sqlalchemy import select

    from store import event_log
    from store.database import transaction
    from store.tables import Job

    with transaction() as session:
        row = session.scalars(select(Job).where(Job.id == own.split("/")[3])).one()
        for number in range(210):
            event_log.append(session, row, "log", {"message": str(number)})
    sizes = [len(page) for page in list_pages(client, own, limit=10**9)]
    assert sizes == [200, 11]
    assert [len(page) for page in list_pages(client, own)] == [50, 50, 50, 50, 11]


@pytest.mark.parametrize("path", ["methods", "schemes", "architectures"])
def test_the_catalog_is_sorted_by_name(client: httpx.Client, path: str) -> None:
    names = [each["name"] for page in list_pages(client, f"/v1/{path}", limit=2) for each in page]
    assert names
    assert names == sorted(names)
    for name in names:
        assert client.get(f"/v1/{path}/{name}").json()["name"] == name


def test_a_filter_is_part_of_every_page(client: httpx.Client, digits: Json) -> None:
    for number in range(6):
        submit_job(client, digits, labels={"team": "a" if number % 2 else "b"})
    found = [
        each for page in list_pages(client, "/v1/jobs", limit=1, label="team:a") for each in page
    ]
    assert [each["labels"]["team"] for each in found] == ["a"] * 3
    assert job_body(digits)
