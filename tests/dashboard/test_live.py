"""A job from the table to the student, watched as it trains."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import Opened

pytestmark = pytest.mark.browser
MINUTE = 60_000


def test_watch_a_job_and_take_the_student(
    opened: Opened, api: httpx.Client, post_job: Callable[..., str], tmp_path: Path
) -> None:
    watched = opened("/")
    page = watched.page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    job_id = post_job("watched from the start", 8)
    # The table has it without a reload.
    link = page.get_by_role("link", name="watched from the start")
    expect(link).to_be_visible(timeout=30_000)
    link.click()
    expect(page.get_by_role("heading", name="watched from the start")).to_be_visible()
    states = page.get_by_role("list", name="States")
    expect(states).to_contain_text("Running", timeout=MINUTE)
    loss = page.locator("figure", has=page.get_by_role("heading", name="Loss and its terms"))
    expect(loss.locator("canvas")).to_be_visible(timeout=MINUTE)
    expect(page.locator(".job-head .chip")).to_have_text("Succeeded", timeout=2 * MINUTE)
    expect(page.locator("#live")).to_have_text("watched from the start: Succeeded")
    expect(page.get_by_role("region", name="Outcome")).to_contain_text("top-1")

    expect(page.locator(".link-state")).to_have_text("Up to date")
    # One stream did all of it; what asks for a page of the events names its size.
    streams = [each for each in watched.requests if "/events" in each and "limit" not in each]
    assert len(streams) == 1
    curves_are_those_of_the_api(page, loss, api, job_id)
    student_is_the_one_listed(page, tmp_path / "student")


def curves_are_those_of_the_api(page: Page, loss: Locator, api: httpx.Client, job_id: str) -> None:
    loss.get_by_text("View as table").click()
    rows = loss.locator("tbody tr")
    column = api.get(f"/v1/jobs/{job_id}/metrics?keys=train/loss").json()["data"]["train/loss"]
    assert len(column["value"]) == 160
    expect(loss.locator(".data-table")).to_contain_text(f"Showing {rows.count()} of 160 points")
    expect(loss.locator(".summary")).to_contain_text("fell from")
    # A chart is drawn when it comes into view.
    memory = page.locator("figure", has=page.get_by_role("heading", name="Memory"))
    memory.scroll_into_view_if_needed()
    expect(memory.locator("canvas")).to_be_visible()
    for axis in ("Step", "Time", "Epoch"):
        page.get_by_role("group", name="X axis").get_by_role("button", name=axis).click()
        expect(rows.first).to_be_visible()
    assert "x=epoch" in page.url


def student_is_the_one_listed(page: Page, target: Path) -> None:
    tab = page.get_by_role("tab", name="Checkpoints & artifacts")
    tab.click()
    row = page.get_by_role("row", name="student.safetensors")
    digest = row.locator("[data-sha256]").get_attribute("data-sha256")
    with page.expect_download() as download:
        row.get_by_role("link").click()
    download.value.save_as(target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    tab.press("ArrowLeft")
    expect(page.get_by_role("log")).to_contain_text("training")
