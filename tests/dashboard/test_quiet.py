"""A hidden tab asks for nothing; one that has lost the server says so and recovers."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened

pytestmark = pytest.mark.browser
LONGER_THAN_A_LOOK_MS = 6000


def test_hidden_tab_is_silent_and_comes_back(opened: Opened, post_job: Callable[..., str]) -> None:
    job_id = post_job("looked away from", 30)
    table, job = opened("/"), opened(f"/#/jobs/{job_id}")
    expect(table.page.get_by_role("link", name="looked away from")).to_be_visible()
    expect(job.page.get_by_role("list", name="States")).to_contain_text("Running", timeout=60_000)
    for watched in (table, job):
        watched.page.evaluate("window.__hide(true)")
        watched.page.wait_for_timeout(600)  # what was under way ends
    before = len(table.requests), len(job.requests)
    job.page.wait_for_timeout(LONGER_THAN_A_LOOK_MS)
    assert (len(table.requests), len(job.requests)) == before
    job.page.evaluate("window.__hide(false)")
    # The table's stream goes on after what it has told, too.
    with table.page.expect_request("**/v1/jobs?after=*"):
        table.page.evaluate("window.__hide(false)")
    expect(table.page.locator(".link-state")).to_have_text("Live")
    expect(job.page.locator(".link-state")).to_have_text("Live")
    resumed = [each for each in job.requests if "/events" in each and "limit" not in each]
    assert len(resumed) == 2
    assert not resumed[1].endswith("after=0")  # goes on where it was
    pause_rests_and_cancel_asks_first(job.page)


def pause_rests_and_cancel_asks_first(page: Page) -> None:
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Keep it").click()
    chip = page.locator(".job-head .chip")
    expect(chip).to_have_text("Running")
    page.get_by_role("button", name="Pause").click()
    expect(chip).to_have_text("Paused", timeout=60_000)
    expect(page.get_by_text("Resume goes on from the last checkpoint")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(chip).to_have_text("Running", timeout=60_000)
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".job-head .chip")).to_have_text("Cancelled", timeout=60_000)


def test_offline_is_told_and_overcome(opened: Opened, finished: dict[str, Any]) -> None:
    watched = opened("/")
    page = watched.page
    expect(page.locator("tbody .name").first).to_be_visible()
    page.context.set_offline(True)
    page.evaluate("window.__hide(false)")
    expect(page.locator(".link-state")).to_contain_text("Offline")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0, timeout=30_000)
    watched.complaints[:] = [each for each in watched.complaints if "ERR_INTERNET" not in each]
