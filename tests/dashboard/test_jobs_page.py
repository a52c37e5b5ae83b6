"""The table of jobs: filters, keys, selection, live updates, cancelling."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import MonitoredPage, OpenPage, cancel_job, occupied_workers

pytestmark = pytest.mark.browser
LABEL = "shelf:upper"


@pytest.fixture(scope="module")
def queued_jobs(
    api: httpx.Client, dataset: str, post_job: Callable[..., str]
) -> Iterator[list[dict[str, Any]]]:
    """Two queued jobs, while other jobs occupy every worker."""
    body = {"student": {"architecture": "cifar/resnet14"}, "dataset": dataset}
    body |= {"labels": {"shelf": "upper"}, "priority": -10}
    with occupied_workers(api, post_job, "holds the worker"):
        responses = [api.post("/v1/jobs", json=body | {"name": f"waits, {i}"}) for i in (1, 2)]
        jobs = [response.raise_for_status().json() for response in responses]
        yield jobs
        for job in jobs:
            cancel_job(api, job["id"])


def test_filters_combine_and_stay_in_the_address(
    open_page: OpenPage,
    api: httpx.Client,
    queued_jobs: list[dict[str, Any]],
    finished_job: dict[str, Any],
) -> None:
    page = open_page("/").page
    waiting = page.get_by_role("link", name="Queued", exact=True)
    states = api.get("/v1/usage").json()["jobs"]
    expect(waiting).to_contain_text(str(states["queued"]))
    page.get_by_role("button", name="Filters").click()
    label = page.get_by_label("Label")
    label.fill("shelf")
    label.press("Tab")
    expect(page.get_by_text("“shelf” is not key:value")).to_be_visible()
    label.fill(LABEL)
    label.press("Tab")
    page.wait_for_url("**/#/jobs?label=shelf%3Aupper")
    expect(page.locator("tbody .name")).to_have_count(2)
    waiting.click()  # keeps the other filters
    page.wait_for_url("**/#/jobs?state=queued&label=*")
    page.reload()
    expect(page.locator("tbody .name")).to_have_count(2)
    expect(label).to_have_value(LABEL)
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_label("Method").select_option("supervised")
    page.get_by_label("Data set").select_option(label="digits")
    page.get_by_label("Student's architecture").fill("cifar/resnet8")
    page.get_by_role("link", name="Succeeded", exact=True).click()
    expect(
        page.get_by_role("link", name=finished_job["resolved"]["name"], exact=True)
    ).to_be_visible()
    assert "method=supervised" in page.url
    assert "architecture=cifar%2Fresnet8" in page.url
    assert "dataset=ds_" in page.url


def test_keys_select_jobs_and_open_the_comparison(
    open_page: OpenPage, queued_jobs: list[dict[str, Any]]
) -> None:
    page = open_page(f"/#/jobs?label={LABEL}").page
    expect(page.locator("tbody .name")).to_have_count(2)
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keys")
    expect(help_).to_contain_text("Select or deselect the job")
    help_.get_by_label("Turn these keys off").check()
    page.keyboard.press("Escape")
    expect(help_).to_have_count(0)
    page.keyboard.press("?")
    expect(help_).to_have_count(0)
    page.get_by_role("button", name="Keys").click()
    help_.get_by_label("Turn these keys off").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("x")
    selection = page.get_by_role("region", name="Selected jobs")
    expect(selection).to_contain_text("1 job selected")
    expect(selection.get_by_role("link", name="Compare")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("x")
    ids = ",".join(job["id"] for job in reversed(queued_jobs))
    expect(selection.get_by_role("link", name="Compare")).to_have_attribute(
        "href", f"#/compare?jobs={ids}"
    )
    page.keyboard.press("x")
    expect(selection).to_contain_text("1 job selected")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(queued_jobs[1]["name"])


def test_stream_adds_a_new_job(
    open_page: OpenPage, api: httpx.Client, queued_jobs: list[dict[str, Any]], dataset: str
) -> None:
    monitored = open_page("/")
    page = monitored.page
    expect(page.locator(".link-state")).to_have_text("Live")
    expect(page.locator("tbody .name").first).to_be_visible()
    # The page loads the list once more when the stream opens; then only the stream is pending.
    monitored.wait_until(lambda: len(list_requests(monitored)) >= 2)
    monitored.wait_until_quiet(num_pending=1)
    lists = list_requests(monitored)
    student = {"architecture": "cifar/resnet8"}
    body = {"name": "posted elsewhere", "student": student, "dataset": dataset, "priority": -20}
    job = api.post("/v1/jobs", json=body).raise_for_status().json()
    link = page.get_by_role("link", name="posted elsewhere")
    expect(link).to_be_visible()
    row = page.locator("tbody tr", has=link)
    api.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    expect(row.locator(".chip")).to_have_text("Cancelled")
    assert list_requests(monitored) == lists
    assert len([url for url in monitored.requests if url.endswith("/v1/jobs")]) == 1


def list_requests(monitored: MonitoredPage) -> list[str]:
    """The requests of the list of jobs, without those of queued jobs alone."""
    return [url for url in monitored.requests if "/v1/jobs?limit" in url]


def test_table_polls_without_a_stream(
    open_page: OpenPage,
    api: httpx.Client,
    queued_jobs: list[dict[str, Any]],
    post_job: Callable[..., str],
) -> None:
    job = f"/v1/jobs/{post_job('will be deleted')}"
    api.post(f"{job}/cancel").raise_for_status()
    monitored = open_page("/login")
    page = monitored.page
    page.route("**/v1/jobs", lambda route: route.fulfill(status=404, json={}))
    page.goto("/")
    expect(page.locator("tbody .name").first).to_be_visible()
    expect(page.get_by_text("every few seconds")).to_be_visible()
    expect(page.get_by_role("link", name="will be deleted")).to_be_visible()
    api.delete(job).raise_for_status()
    expect(page.get_by_role("link", name="will be deleted")).to_have_count(0)
    expect(page.locator(".link-state")).to_have_text("Up to date")


def test_selected_jobs_are_cancelled_together(
    open_page: OpenPage, api: httpx.Client, queued_jobs: list[dict[str, Any]]
) -> None:
    page = open_page(f"/#/jobs?label={LABEL}").page
    page.get_by_label("Select all shown jobs").check()
    selection = page.get_by_role("region", name="Selected jobs")
    selection.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep it").click()
    assert api.get(f"/v1/jobs/{queued_jobs[0]['id']}").json()["state"] == "queued"
    selection.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_text("2 jobs cancelled")).to_be_visible()
    for job in queued_jobs:
        expect(page.get_by_text(f"{job['name']}: cancelled")).to_be_visible()
        assert api.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    expect(page.locator("tbody .chip")).to_have_text(["Cancelled", "Cancelled"])
    expect(selection).to_be_hidden()
