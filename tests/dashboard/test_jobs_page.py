"""The table of jobs: found by filters, chosen by keys, cancelled and compared, kept live."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened, wait

pytestmark = pytest.mark.browser
LABEL = "shelf:upper"


@pytest.fixture(scope="module")
def queued(
    api: httpx.Client, dataset: str, post_job: Callable[..., str]
) -> Iterator[list[dict[str, Any]]]:
    """Two jobs that wait: the only worker has another one."""
    holds = post_job("holds the worker", 1000)
    wait(api, f"/v1/jobs/{holds}", "running")
    body = {"student": {"architecture": "cifar/resnet14"}, "dataset": dataset}
    body |= {"labels": {"shelf": "upper"}, "priority": -10}
    made = [api.post("/v1/jobs", json=body | {"name": name}) for name in ("waits, 1", "waits, 2")]
    jobs = [answer.raise_for_status().json() for answer in made]
    yield jobs
    for job in jobs:
        api.post(f"/v1/jobs/{job['id']}/cancel")  # it may be over
    api.post(f"/v1/jobs/{holds}/cancel").raise_for_status()
    wait(api, f"/v1/jobs/{holds}", "cancelled")


def names(page: Page) -> list[str]:
    return page.locator("tbody .name").all_text_contents()


def test_filters_and_counts(
    opened: Opened, api: httpx.Client, queued: list[dict[str, Any]], finished: dict[str, Any]
) -> None:
    page = opened("/").page
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
    expect(page.get_by_role("link", name=finished["resolved"]["name"], exact=True)).to_be_visible()
    assert "method=supervised" in page.url
    assert "architecture=cifar%2Fresnet8" in page.url
    assert "dataset=ds_" in page.url


def test_keys_choose_and_lead_to_compare(opened: Opened, queued: list[dict[str, Any]]) -> None:
    page = opened(f"/#/jobs?label={LABEL}").page
    expect(page.locator("tbody .name")).to_have_count(2)
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keys")
    expect(help_).to_contain_text("Choose the job")
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
    chosen = page.get_by_role("region", name="Chosen jobs")
    expect(chosen).to_contain_text("1 job chosen")
    expect(chosen.get_by_role("link", name="Compare")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("x")
    ids = ",".join(job["id"] for job in reversed(queued))
    expect(chosen.get_by_role("link", name="Compare")).to_have_attribute(
        "href", f"#/compare?jobs={ids}"
    )
    page.keyboard.press("x")
    expect(chosen).to_contain_text("1 job chosen")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(queued[1]["name"])


def test_stream_brings_a_new_job(
    opened: Opened, api: httpx.Client, queued: list[dict[str, Any]], dataset: str
) -> None:
    watched = opened("/")
    page = watched.page
    expect(page.locator(".link-state")).to_have_text("Live")
    expect(page.locator("tbody .name").first).to_be_visible()
    page.wait_for_timeout(1000)  # the look at what changed before the stream began is over
    lists = [each for each in watched.requests if "/v1/jobs?limit" in each]
    student = {"architecture": "cifar/resnet8"}
    body = {"name": "came by itself", "student": student, "dataset": dataset, "priority": -20}
    job = api.post("/v1/jobs", json=body).raise_for_status().json()
    link = page.get_by_role("link", name="came by itself")
    expect(link).to_be_visible()
    row = page.locator("tbody tr", has=link)
    api.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    expect(row.locator(".chip")).to_have_text("Cancelled")
    assert [each for each in watched.requests if "/v1/jobs?limit" in each] == lists
    assert len([each for each in watched.requests if each.endswith("/v1/jobs")]) == 1


def test_without_a_stream_the_table_looks_again(
    opened: Opened, api: httpx.Client, queued: list[dict[str, Any]], post_job: Callable[..., str]
) -> None:
    job = f"/v1/jobs/{post_job('will be deleted')}"
    api.post(f"{job}/cancel").raise_for_status()
    watched = opened("/login")
    page = watched.page
    page.route("**/v1/jobs", lambda route: route.fulfill(status=404, json={}))
    page.goto("/")
    expect(page.locator("tbody .name").first).to_be_visible()
    expect(page.get_by_text("every few seconds")).to_be_visible()
    expect(page.get_by_role("link", name="will be deleted")).to_be_visible()
    api.delete(job).raise_for_status()
    expect(page.get_by_role("link", name="will be deleted")).to_have_count(0, timeout=20_000)
    expect(page.locator(".link-state")).to_have_text("Up to date", timeout=20_000)


def test_cancel_two_at_once(
    opened: Opened, api: httpx.Client, queued: list[dict[str, Any]]
) -> None:
    page = opened(f"/#/jobs?label={LABEL}").page
    page.get_by_label("Choose all jobs that are shown").check()
    chosen = page.get_by_role("region", name="Chosen jobs")
    chosen.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep it").click()
    assert api.get(f"/v1/jobs/{queued[0]['id']}").json()["state"] == "queued"
    chosen.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_text("2 jobs cancelled")).to_be_visible()
    for job in queued:
        expect(page.get_by_text(f"{job['name']}: cancelled")).to_be_visible()
        assert api.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    expect(page.locator("tbody .chip")).to_have_text(["Cancelled", "Cancelled"])
    expect(chosen).to_be_hidden()
