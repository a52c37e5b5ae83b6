"""The system page: workers, queue, storage, readiness, keys."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from stillhouse.local import Stack
from tests.dashboard.conftest import OpenPage, cancel_job, occupied_workers
from tests.helpers import wait_until

pytestmark = pytest.mark.browser


def test_workers_storage_and_readiness_match_the_api(
    open_page: OpenPage, api: httpx.Client, dataset: str
) -> None:
    page = open_page("/#/system").page
    workers = api.get("/v1/workers").json()["data"]
    for worker in workers:
        row = page.get_by_role("row", name=worker["name"])
        expect(row).to_contain_text("Alive" if worker["alive"] else "Gone")
    page.get_by_role("tab", name="Storage and usage").click()
    rows = page.get_by_role("region", name="Stored by kind").locator("tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.last).to_contain_text("Teacher caches")
    used = api.get("/v1/usage").json()["storage_bytes"]["datasets"]
    size = f"{used / 1000:.0f} kB" if used < 1e6 else f"{float(f'{used / 1e6:.3g}'):g} MB"
    expect(rows.first).to_contain_text(size)
    page.get_by_role("tab", name="Readiness").click()
    checks = page.get_by_role("region", name="Checks")
    for part in ("Object store", "Workers' disk space"):
        expect(checks.get_by_role("row", name=part)).to_contain_text("Available")


@pytest.fixture(scope="module")
def waiting_jobs(api: httpx.Client, post_job: Callable[..., str]) -> Iterator[list[str]]:
    """Two queued jobs, one after the other, while other jobs occupy every worker."""
    with occupied_workers(api, post_job, "takes the worker"):
        jobs = [post_job(f"waits {position}", 1) for position in ("first", "second")]
        yield jobs
        for job in jobs:
            cancel_job(api, job)


def test_worker_shows_its_job(open_page: OpenPage, waiting_jobs: list[str]) -> None:
    rows = open_page("/#/system").page.get_by_role("region", name="Workers").locator("tbody tr")
    job = rows.filter(has_text="train").get_by_role("link", name="takes the worker")
    expect(job.first).to_have_attribute("href", re.compile("^#/jobs/job_"))


def test_raised_priority_moves_a_job_forward(
    open_page: OpenPage, api: httpx.Client, waiting_jobs: list[str]
) -> None:
    page = open_page("/#/system?tab=queue").page
    rows = page.get_by_role("region", name="Jobs in the queue").locator("tbody tr")
    names = rows.get_by_role("link")
    expect(names.nth(-2)).to_have_text("waits first")
    expect(names.last).to_have_text("waits second")
    button = page.get_by_role("button", name="Raise the priority of waits second")
    button.focus()
    page.keyboard.press("Enter")
    second = rows.filter(has_text="waits second")
    expect(names.nth(-2)).to_have_text("waits second")
    expect(second.locator("b")).to_have_text("1")
    expect(page.locator("#live")).to_have_text("waits second: priority 1")
    expect(button).to_be_focused()  # although its row has moved
    jobs: list[dict[str, Any]] = [api.get(f"/v1/jobs/{job}").json() for job in waiting_jobs]
    assert [job["priority"] for job in jobs] == [0, 1]
    assert jobs[1]["queue_position"] < jobs[0]["queue_position"]
    page.get_by_role("button", name="Lower the priority of waits second").click()
    expect(names.last).to_have_text("waits second")


def test_key_is_created_used_and_revoked(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/#/system?tab=keys").page
    page.locator("#new-key").fill("reader")
    page.get_by_role("button", name="Create key").click()
    key = page.get_by_role("region", name="The key of reader").inner_text()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert reader.post("/v1/jobs", json={}).status_code == 403
        assert_no_admin_tab(open_page("/#/system?tab=keys", key=key).page)
        page.reload()
        row = page.get_by_role("row", name="reader").filter(has_text="Valid")
        expect(row).to_contain_text("jobs:read")
        expect(page.get_by_text(key)).to_have_count(0)
        row.get_by_role("button", name="Revoke reader").click()
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_role("row", name="reader")).to_contain_text("Revoked")
        wait_until(lambda: reader.get("/v1/jobs").status_code == 401, 60, "the key is refused")


def assert_no_admin_tab(page: Page) -> None:
    expect(page.get_by_role("heading", name="Keys of this project")).to_be_visible()
    expect(page.get_by_role("heading", name="Projects")).to_have_count(0)
    expect(page.get_by_role("checkbox")).to_have_count(1)
    page.locator("#new-key").fill("more")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("lacks the scope")).to_be_visible()


def test_new_project_has_a_key_and_no_jobs(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/#/system?tab=keys").page
    page.locator("#new-project").fill("next door")
    page.get_by_role("button", name="Create project").click()
    key = page.get_by_role("region", name="The key of next door").inner_text()
    expect(page.get_by_role("region", name="Projects")).to_contain_text("next door")
    headers = {"Authorization": f"Bearer {key}"}
    response = httpx.get(f"{stack.url}/v1/jobs", headers=headers, timeout=60)
    assert response.json()["data"] == []
