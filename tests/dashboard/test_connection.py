"""Requests and streams of hidden tabs; recovery after a lost connection."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import MonitoredPage, OpenPage, endless_job

pytestmark = pytest.mark.browser
LONGER_THAN_A_POLL_MS = 6000


def test_hidden_tab_sends_no_requests_and_resumes(
    open_page: OpenPage, api: httpx.Client, post_job: Callable[..., str]
) -> None:
    with endless_job(api, post_job, "in a hidden tab") as job_id:
        table = open_page("/", clock=True)
        job = open_page(f"/#/jobs/{job_id}", clock=True)
        expect(table.page.get_by_role("link", name="in a hidden tab")).to_be_visible()
        expect(job.page.locator(".job-head .chip")).to_have_text("Running")
        assert_no_requests_while_hidden(table, job)
        assert_pause_and_cancel_work(job.page)


def assert_no_requests_while_hidden(table: MonitoredPage, job: MonitoredPage) -> None:
    for monitored in (table, job):
        expect(monitored.page.locator(".link-state")).to_have_text("Live")  # the stream is open
    for monitored in (table, job):
        monitored.page.evaluate("window.__hide(true)")
    for monitored in (table, job):
        monitored.wait_until_quiet()
    before = len(table.requests), len(job.requests)
    for monitored in (table, job):
        monitored.page.clock.run_for(LONGER_THAN_A_POLL_MS)
    assert (len(table.requests), len(job.requests)) == before
    job.page.evaluate("window.__hide(false)")
    # The stream of the table continues after its last event, too.
    with table.page.expect_request("**/v1/jobs?after=*"):
        table.page.evaluate("window.__hide(false)")
    expect(table.page.locator(".link-state")).to_have_text("Live")
    expect(job.page.locator(".link-state")).to_have_text("Live")
    resumed = [url for url in job.requests if "/events?after" in url]
    assert len(resumed) >= 2
    assert not resumed[-1].endswith("after=0")  # it continues after the last event


def assert_pause_and_cancel_work(page: Page) -> None:
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Keep it").click()
    chip = page.locator(".job-head .chip")
    expect(chip).to_have_text("Running")
    page.get_by_role("button", name="Pause").click()
    expect(chip).to_have_text("Paused")
    expect(page.get_by_text("Resume continues from the last checkpoint")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(chip).to_have_text("Running")
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(chip).to_have_text("Cancelled")


def test_page_recovers_from_a_lost_connection(
    open_page: OpenPage, finished_job: dict[str, Any]
) -> None:
    monitored = open_page("/")
    page = monitored.page
    expect(page.locator("tbody .name").first).to_be_visible()
    page.context.set_offline(True)
    page.evaluate("window.__hide(false)")
    expect(page.locator(".link-state")).to_contain_text("Offline")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0)
    monitored.errors[:] = [error for error in monitored.errors if "ERR_INTERNET" not in error]
