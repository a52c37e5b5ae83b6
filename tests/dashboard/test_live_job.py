"""A job from the table of jobs to its student, while it trains."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import OpenPage, occupied_workers

pytestmark = pytest.mark.browser
FINISHED_MS = 300_000


def test_job_is_followed_until_its_student_is_downloaded(
    open_page: OpenPage, api: httpx.Client, post_job: Callable[..., str], tmp_path: Path
) -> None:
    monitored = open_page("/")
    page = monitored.page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    chip = page.locator(".job-head .chip")
    # The job starts when its page is open, so that the page sees every state.
    with occupied_workers(api, post_job, "holds the worker"):
        job_id = post_job("followed", 8)
        # The table shows the job without a reload.
        page.get_by_role("link", name="followed").click()
        expect(page.get_by_role("heading", name="followed")).to_be_visible()
        expect(chip).to_have_text("Queued")
        expect(page.locator(".link-state")).to_have_text("Live")
    states = page.get_by_role("list", name="States")
    expect(states).to_contain_text("Running", timeout=FINISHED_MS)
    loss = page.locator("figure", has=page.get_by_role("heading", name="Loss and its terms"))
    expect(loss.locator("canvas")).to_be_visible(timeout=FINISHED_MS)
    expect(chip).to_have_text("Succeeded", timeout=FINISHED_MS)
    expect(page.locator("#live")).to_have_text("followed: Succeeded")
    expect(page.get_by_role("region", name="Outcome")).to_contain_text("top-1")

    expect(page.locator(".link-state")).to_have_text("Up to date")
    # A single stream. Requests of pages of events have a limit.
    streams = [url for url in monitored.requests if "/events?after" in url]
    assert len(streams) == 1, streams
    assert_curves_match_the_api(page, loss, api, job_id)
    assert_student_matches_its_digest(page, tmp_path / "student")


def assert_curves_match_the_api(page: Page, loss: Locator, api: httpx.Client, job_id: str) -> None:
    loss.get_by_text("View as table").click()
    rows = loss.locator("tbody tr")
    column = api.get(f"/v1/jobs/{job_id}/metrics?keys=train/loss").json()["data"]["train/loss"]
    assert len(column["value"]) == 160
    expect(rows.first).to_be_visible()
    expect(loss.locator(".data-table")).to_contain_text(f"Showing {rows.count()} of 160 points")
    expect(loss.locator(".summary")).to_contain_text("fell from")
    # A chart is drawn when it is scrolled into view.
    memory = page.locator("figure", has=page.get_by_role("heading", name="Memory"))
    memory.scroll_into_view_if_needed()
    expect(memory.locator("canvas")).to_be_visible()
    for axis in ("Step", "Time", "Epoch"):
        page.get_by_role("group", name="X axis").get_by_role("button", name=axis).click()
        expect(loss.get_by_role("columnheader").first).to_have_text(axis)
    assert "x=epoch" in page.url


def assert_student_matches_its_digest(page: Page, target: Path) -> None:
    tab = page.get_by_role("tab", name="Checkpoints & artifacts")
    tab.click()
    row = page.get_by_role("row", name="student.safetensors")
    digest = row.locator("code[title]").get_attribute("title")
    with page.expect_download() as download:
        row.get_by_role("link").click()
    download.value.save_as(target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    tab.press("ArrowLeft")
    expect(page.get_by_role("log")).to_contain_text("training")
