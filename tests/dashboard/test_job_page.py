"""The page of a finished job: curves, metrics, report, log, settings, lineage, actions."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import OpenPage, cancel_job, wait_for_state

pytestmark = pytest.mark.browser
Json = dict[str, Any]
CHARTS = [
    "Loss and its terms",
    "Top-1 on validation",
    "Agreement with the teacher, and KL to it",
    "Learning rate",
    "Throughput",
    "Memory",
]
LINE_NAMES = {"Loss and its terms": "Total", "Learning rate": "Rate"}


@pytest.fixture
def open_tab(open_page: OpenPage, distilled_job: Json) -> Callable[..., Page]:
    """Open the job's page with one of its tabs."""

    def open_named(name: str, query: str = "", job: str = "") -> Page:
        page = open_page(f"/#/jobs/{job or distilled_job['id']}?tab={name}{query}").page
        expect(page.locator(".job-head .chip")).to_have_text("Succeeded")
        return page

    return open_named


def test_charts_are_drawn_after_one_request(open_page: OpenPage, distilled_job: Json) -> None:
    monitored = open_page(f"/#/jobs/{distilled_job['id']}")
    page = monitored.page
    outcome = page.get_by_role("region", name="Outcome")
    for name in ("Top-1, test", "Agreement", "Size", "Latency, p50", "Device time"):
        expect(outcome.get_by_role("heading", name=name)).to_be_visible()
    expect(outcome).to_contain_text("Verdict")
    figures = page.locator(".charts figure")
    expect(figures).to_have_count(6)
    for figure, name in zip(figures.all(), CHARTS, strict=True):
        figure.scroll_into_view_if_needed()
        expect(figure.get_by_role("heading", name=name)).to_be_visible()
        expect(figure.locator(".summary")).to_contain_text(LINE_NAMES.get(name, "Student"))
        expect(figure.locator("canvas").first).to_be_visible()
    fidelity = figures.nth(2)
    expect(fidelity.locator("canvas")).to_have_count(2)
    expect(fidelity.locator(".summary")).to_contain_text("Student KL")
    # The curves of a finished job are requested once, thinned by the server.
    assert len([url for url in monitored.requests if "/metrics?" in url]) == 1
    page.get_by_role("button", name="Time").click()
    expect(fidelity.locator(".summary")).to_contain_text(" s")


def test_metrics_are_searched_and_drawn(open_tab: Callable[..., Page]) -> None:
    page = open_tab("metrics")
    box = page.get_by_role("searchbox", name="Search metrics")
    box.fill("baseline ece")
    expect(page.get_by_text(re.compile(r"^1 of \d+ metrics"))).to_be_visible()
    page.locator("summary:visible", has_text="baseline/val/ece").click()
    figure = page.locator("figure", has=page.get_by_role("heading", name="baseline/val/ece"))
    expect(figure.locator("canvas")).to_be_visible()
    page.reload()  # the address contains the search and the open metric
    expect(box).to_have_value("baseline ece")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()


def test_report_shows_confusion_and_disagreements(
    open_tab: Callable[..., Page], api: httpx.Client, distilled_job: Json
) -> None:
    report = api.get(f"/v1/jobs/{distilled_job['id']}/report").json()
    page = open_tab("report")
    rows = page.get_by_role("region", name="Confusion", exact=True).locator("tbody tr")
    expect(rows).to_have_count(10)
    expect(rows.nth(3).locator("td b")).to_have_text([str(n) for n in report["confusion"][3]])
    expect(rows.nth(3)).to_contain_text("%")
    expect(page.get_by_role("region", name="Exported files")).to_contain_text("student.safetensors")
    expect(page.get_by_text("Seeds.")).to_be_visible()
    differ = page.get_by_role("region", name="Where student and teacher disagree")
    assert report["disagreements"]
    num_shown = min(12, len(report["disagreements"]))
    expect(differ.locator("img")).to_have_count(num_shown)
    first = report["disagreements"][0]
    card = differ.locator("li").first
    expect(card.locator("dl")).to_have_attribute("data-row", str(first["index"]))
    expect(card).to_contain_text(f"Student{first['student']}")
    loaded = "image => image.decode().then(() => image.naturalWidth)"
    assert card.locator("img").evaluate(loaded) == 8


def test_log_is_filtered_and_downloaded(
    open_tab: Callable[..., Page], api: httpx.Client, distilled_job: Json
) -> None:
    page = open_tab("log")
    log = page.get_by_role("log")
    expect(log).to_contain_text("Succeeded")
    page.get_by_role("searchbox", name="Search the events").fill("running")
    expect(log.locator("li")).to_have_count(1)
    page.get_by_role("searchbox", name="Search the events").fill("")
    page.get_by_label("Show", exact=True).select_option("error")
    expect(log).to_contain_text("No event matches")
    page.get_by_role("button", name="Wrap lines").click()
    expect(log).to_have_attribute("data-long", "")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the log").click()
    text = Path(download.value.path()).read_text()
    assert text == api.get(f"/v1/jobs/{distilled_job['id']}/logs").text


def test_settings_and_lineage_link_other_jobs(
    open_tab: Callable[..., Page],
    api: httpx.Client,
    distilled_job: Json,
    finished_job: Json,
    teacher: Json,
) -> None:
    page = open_tab("config")
    box = page.get_by_role("combobox", name="Compare the settings with")
    box.fill("onerror")
    page.get_by_role("listbox", name="Jobs found").get_by_role("option").click()
    rows = page.get_by_role("region", name="Differences").locator("tbody tr")
    rate = rows.filter(has_text="training.optimizer.lr")
    expect(rate.locator("td")).to_have_text(["0.000001", "0.05"])
    expect(rows.filter(has_text="student.architecture")).to_have_count(0)
    assert f"diff={finished_job['id']}" in page.url
    body = distilled_job | {
        "name": "goes on",
        "from": {"job": distilled_job["id"]},
        "priority": -9,
    }
    fields = ("name", "student", "dataset", "teachers", "from", "priority")
    response = api.post("/v1/jobs", json={name: body[name] for name in fields})
    assert response.status_code == httpx.codes.CREATED, response.text
    page.get_by_role("tab", name="Lineage").click()
    above = page.get_by_role("region", name="Inputs")
    expect(above.get_by_role("link", name=teacher["name"])).to_be_visible()
    expect(above.get_by_role("link", name=finished_job["resolved"]["name"])).to_be_visible()
    below = page.get_by_role("region", name="Results")
    expect(below.get_by_role("link", name="goes on")).to_be_visible()
    api.post(f"/v1/jobs/{response.json()['id']}/cancel").raise_for_status()
    page = open_tab("lineage", job=finished_job["id"])
    below = page.get_by_role("region", name="Results")
    expect(below.get_by_role("link", name=distilled_job["name"])).to_be_visible()


def test_actions_link_pages_and_delete_the_job(
    open_tab: Callable[..., Page],
    api: httpx.Client,
    post_job: Callable[..., str],
    distilled_job: Json,
) -> None:
    page = open_tab("files")
    for name, to in {
        "Duplicate": f"#/new?from={distilled_job['id']}",
        "Compare": f"#/compare?jobs={distilled_job['id']}",
        "Student page": f"#/students/{distilled_job['id']}",
    }.items():
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("href", to)
    job_id = post_job("to be thrown away", 1)
    cancel_job(api, job_id)
    page.goto(f"/#/jobs/{job_id}")
    expect(page.locator("h1")).to_have_text("to be thrown away")  # no longer the other job
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert api.get(f"/v1/jobs/{job_id}").status_code == httpx.codes.NOT_FOUND


def test_warm_job_shows_no_student(
    open_page: OpenPage, api: httpx.Client, dataset: str, teacher: Json
) -> None:
    body = {
        "name": "fills the cache",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 1, "views": 1},
    }
    created = api.post("/v1/teacher-caches/warm", json=body).raise_for_status().json()
    wait_for_state(api, created["links"]["self"], "succeeded")
    monitored = open_page(f"/#/jobs/{created['id']}")
    page = monitored.page
    expect(page.locator(".job-head .chip")).to_have_text("Succeeded")
    expect(page.locator(".log")).to_contain_text("view 1")
    assert not [url for url in monitored.requests if url.endswith("/report")]
    page.goto(f"/#/students/{created['id']}")
    expect(page.locator("main")).to_contain_text("trains no student")
    page.goto("/#/")
    row = page.get_by_role("row").filter(has_text="fills the cache")
    expect(row).to_contain_text("teacher cache")
