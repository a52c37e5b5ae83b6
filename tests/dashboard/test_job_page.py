"""One job, whole: its curves, its metrics, where it is wrong, its files, settings and kin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened, wait

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
SAID = {"Loss and its terms": "Total", "Learning rate": "Rate"}


@pytest.fixture
def tab(opened: Opened, taught: Json) -> Callable[..., Page]:
    """The job's page with one of its tabs."""

    def open_tab(name: str, more: str = "", job: str = "") -> Page:
        page = opened(f"/#/jobs/{job or taught['id']}?tab={name}{more}").page
        expect(page.locator(".job-head .chip")).to_have_text("Succeeded")
        return page

    return open_tab


def test_six_charts_of_few_requests(opened: Opened, taught: Json) -> None:
    watched = opened(f"/#/jobs/{taught['id']}")
    page = watched.page
    outcome = page.get_by_role("region", name="Outcome")
    for name in ("Top-1, test", "Agreement", "Size", "Latency, p50", "Device time"):
        expect(outcome.get_by_role("heading", name=name)).to_be_visible()
    expect(outcome).to_contain_text("Verdict")
    figures = page.locator(".charts figure")
    expect(figures).to_have_count(6)
    for figure, name in zip(figures.all(), CHARTS, strict=True):
        figure.scroll_into_view_if_needed()
        expect(figure.get_by_role("heading", name=name)).to_be_visible()
        expect(figure.locator(".summary")).to_contain_text(SAID.get(name, "Student"))
        expect(figure.locator("canvas").first).to_be_visible()
    both = figures.nth(2)
    expect(both.locator("canvas")).to_have_count(2)
    expect(both.locator(".summary")).to_contain_text("Student KL")
    # What is over is not replayed: the server thins its curves.
    assert len([each for each in watched.requests if "/metrics?" in each]) == 1
    page.get_by_role("button", name="Time").click()
    expect(both.locator(".summary")).to_contain_text(" s")


def test_every_metric_is_found_and_drawn(tab: Callable[..., Page]) -> None:
    page = tab("metrics")
    box = page.get_by_role("searchbox", name="Search metrics")
    box.fill("baseline ece")
    page.get_by_text("1 of ", exact=False).wait_for()
    page.locator("summary:visible", has_text="baseline/val/ece").click()
    figure = page.locator("figure", has=page.get_by_role("heading", name="baseline/val/ece"))
    expect(figure.locator("canvas")).to_be_visible()
    page.reload()  # the address has all of it
    expect(box).to_have_value("baseline ece")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()


def test_report_tells_where_it_is_wrong(
    tab: Callable[..., Page], api: httpx.Client, taught: Json
) -> None:
    report = api.get(f"/v1/jobs/{taught['id']}/report").json()
    page = tab("report")
    rows = page.get_by_role("region", name="Confusion", exact=True).locator("tbody tr")
    expect(rows).to_have_count(10)
    expect(rows.nth(3).locator("td b")).to_have_text([str(n) for n in report["confusion"][3]])
    expect(rows.nth(3)).to_contain_text("%")
    expect(page.get_by_role("region", name="Published forms")).to_contain_text(
        "student.safetensors"
    )
    expect(page.get_by_text("Seeds.")).to_be_visible()
    differ = page.get_by_role("region", name="Where student and teacher disagree")
    assert report["disagreements"]
    shown = min(12, len(report["disagreements"]))
    expect(differ.locator("img")).to_have_count(shown)
    first = report["disagreements"][0]
    card = differ.locator("li").first
    expect(card.locator("dl")).to_have_attribute("data-row", str(first["index"]))
    expect(card).to_contain_text(f"Student{first['student']}")
    loaded = "image => image.decode().then(() => image.naturalWidth)"
    assert card.locator("img").evaluate(loaded) == 8


def test_log_is_found_and_taken(tab: Callable[..., Page], api: httpx.Client, taught: Json) -> None:
    page = tab("log")
    log = page.get_by_role("log")
    expect(log).to_contain_text("Succeeded")
    page.get_by_role("searchbox", name="Search the events").fill("running")
    expect(log.locator("li")).to_have_count(1)
    page.get_by_role("searchbox", name="Search the events").fill("")
    page.get_by_label("Show", exact=True).select_option("error")
    expect(log).to_contain_text("Nothing like this")
    page.get_by_role("button", name="Wrap lines").click()
    expect(log).to_have_attribute("data-long", "")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the log").click()
    text = Path(download.value.path()).read_text()
    assert text == api.get(f"/v1/jobs/{taught['id']}/logs").text


def test_settings_and_kin(
    tab: Callable[..., Page], api: httpx.Client, taught: Json, finished: Json, teacher: Json
) -> None:
    page = tab("config")
    box = page.get_by_role("combobox", name="Compare the settings with")
    box.fill("onerror")
    page.get_by_role("listbox", name="Jobs found").get_by_role("option").click()
    rows = page.get_by_role("region", name="Differences").locator("tbody tr")
    rate = rows.filter(has_text="training.optimizer.lr")
    expect(rate.locator("td")).to_have_text(["0.000001", "0.05"])
    expect(rows.filter(has_text="student.architecture")).to_have_count(0)
    assert f"diff={finished['id']}" in page.url
    body = taught["resolved"] | {"name": "goes on", "from": {"job": taught["id"]}, "priority": -9}
    wanted = ("name", "student", "dataset", "teachers", "from", "priority")
    later = api.post("/v1/jobs", json={name: body[name] for name in wanted})
    page.get_by_role("tab", name="Lineage").click()
    above = page.get_by_role("region", name="Made from")
    expect(above.get_by_role("link", name=teacher["name"])).to_be_visible()
    expect(above.get_by_role("link", name=finished["resolved"]["name"])).to_be_visible()
    below = page.get_by_role("region", name="What has come of it")
    expect(below.get_by_role("link", name="goes on")).to_be_visible()
    api.post(f"/v1/jobs/{later.raise_for_status().json()['id']}/cancel").raise_for_status()
    page = tab("lineage", job=finished["id"])
    below = page.get_by_role("region", name="What has come of it")
    expect(below.get_by_role("link", name=taught["name"])).to_be_visible()


def test_actions_lead_on(
    tab: Callable[..., Page], api: httpx.Client, post_job: Callable[..., str], taught: Json
) -> None:
    page = tab("files")
    for name, to in {
        "Duplicate": f"#/new?from={taught['id']}",
        "Compare": f"#/compare?jobs={taught['id']}",
        "Student page": f"#/students/{taught['id']}",
    }.items():
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("href", to)
    gone = post_job("to be thrown away", 1)
    api.post(f"/v1/jobs/{gone}/cancel").raise_for_status()
    wait(api, f"/v1/jobs/{gone}", "cancelled")
    page.goto(f"/#/jobs/{gone}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert api.get(f"/v1/jobs/{gone}").status_code == httpx.codes.NOT_FOUND


def test_a_job_that_only_asks_its_teacher_says_so(
    opened: Opened, api: httpx.Client, dataset: str, teacher: Json
) -> None:
    body = {
        "name": "asks ahead",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 1, "views": 1},
    }
    made = api.post("/v1/teacher-caches/warm", json=body).raise_for_status().json()
    wait(api, made["links"]["self"], "succeeded")
    watched = opened(f"/#/jobs/{made['id']}")
    page = watched.page
    expect(page.locator(".job-head .chip")).to_have_text("Succeeded")
    expect(page.locator(".log")).to_contain_text("answers for view 1")
    assert not [url for url in watched.requests if url.endswith("/report")]
    page.goto(f"/#/students/{made['id']}")
    expect(page.locator("main")).to_contain_text("trains no student")
    page.goto("/#/")
    row = page.get_by_role("row").filter(has_text="asks ahead")
    expect(row).to_contain_text("asking the teacher")
