"""Properties of all pages: accessibility in both themes and on a phone, names as text, keyboard."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import OpenPage

pytestmark = pytest.mark.browser
Json = dict[str, Any]
PHONE = {"width": 360, "height": 740}
ALL_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZE_AND_COLOR_RULES = ["color-contrast", "link-in-text-block", "target-size", "meta-viewport"]
SIZE_AND_COLOR_RULES += ["scrollable-region-focusable", "css-orientation-lock"]
"""The rules whose result depends on theme and size."""
RUN_AXE = """async (rules) => {
  const { violations } = await axe.run(document, { runOnly: rules });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}"""


@dataclass(frozen=True)
class View:
    """The address of a page, and an element that appears when the page is complete."""

    address: str
    marker: Callable[[Page], Locator]


def region(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("region", name=name, exact=True)


def heading(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("heading", name=name, exact=True)


def button(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("button", name=name, exact=True)


def first(selector: str) -> Callable[[Page], Locator]:
    return lambda page: page.locator(selector).first


JOB = "/#/jobs/{job}"
VIEWS = {
    "login": View("/login#used", lambda page: page.get_by_label("API key")),
    "jobs": View("/", first("tbody .name")),
    "jobs, filtered": View("/#/jobs?method=kd", first("tbody .name")),
    "job": View(f"{JOB}?tab=report", region("Confusion")),
    "job, metrics": View(f"{JOB}?tab=metrics", first(".metrics summary")),
    "job, log": View(f"{JOB}?tab=log", first(".log time")),
    "job, artifacts": View(f"{JOB}?tab=artifacts", first("main code")),
    "job, configuration": View(f"{JOB}?tab=config&diff={{other}}", region("Differences")),
    "job, runs": View(f"{JOB}?tab=runs", first("[role=tabpanel] table")),
    "job, lineage": View(f"{JOB}?tab=lineage", region("Results")),
    "new": View("/#/new?from={job}", button("Start job")),
    "compare": View("/#/compare?jobs={job},{other}", heading("Results")),
    "compare, empty": View("/#/compare", heading("Which jobs?")),
    "frontier": View("/#/frontier", first(".scatter [role=option]")),
    "student": View("/#/students/{job}", heading("Model card")),
    "data sets": View("/#/catalog?open={dataset}", region("Classes of digits")),
    "models": View("/#/catalog?tab=models", first(".expandable")),
    "architectures": View(
        "/#/catalog?tab=architectures&q=resnet20&open=cifar/resnet20",
        region("Feature layers of cifar/resnet20"),
    ),
    "methods": View("/#/catalog?tab=methods&open=dkd", region("Fields of dkd")),
    "schemes": View("/#/catalog?tab=schemes&open=mutual", region("Fields of mutual")),
    "workers": View("/#/system", region("Workers")),
    "queue": View(
        "/#/system?tab=queue", lambda page: page.get_by_role("list", name="Jobs by state")
    ),
    "use": View("/#/system?tab=use", region("Stored by kind")),
    "readiness": View("/#/system?tab=ready", region("Checks")),
    "keys": View("/#/system?tab=keys", heading("A new project")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_page_is_accessible_in_both_themes_and_on_a_phone(
    open_page: OpenPage, finished_job: Json, distilled_job: Json, dataset: str, axe: str, name: str
) -> None:
    view = VIEWS[name]
    address = view.address.format(
        job=distilled_job["id"], other=finished_job["id"], dataset=dataset
    )
    page = open_page(address, key=None if name == "login" else "", color_scheme="light").page
    expect(view.marker(page)).to_be_visible()
    page.evaluate(axe)
    assert page.evaluate(RUN_AXE, ALL_RULES) == []
    # The same page in the other theme, on a phone.
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    expect(view.marker(page)).to_be_visible()
    # Charts are redrawn some frames after the page has become narrower.
    page.wait_for_function(
        "width => document.documentElement.scrollWidth <= width", arg=PHONE["width"]
    )
    assert page.evaluate(RUN_AXE, SIZE_AND_COLOR_RULES) == []


def test_names_are_shown_literally(open_page: OpenPage, finished_job: dict[str, Any]) -> None:
    name = finished_job["resolved"]["name"]
    page = open_page("/#/jobs?q=onerror").page
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("h1")).to_have_text(name)
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_role("region", name="As resolved")).to_contain_text("onerror=__x=1")


def test_unknown_address_shows_a_notice(open_page: OpenPage) -> None:
    page = open_page("/#/nowhere").page
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="Show the jobs").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def test_keyboard_reaches_job_and_chart(open_page: OpenPage, finished_job: dict[str, Any]) -> None:
    page = open_page("/").page
    expect(page.locator("tbody .name").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("onerror")
    page.wait_for_url("**/#/jobs?q=onerror")
    expect(page.locator("tbody .name")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("tbody .name")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    chart = page.get_by_role("slider", name="Loss and its terms")
    chart.focus()
    page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("^Epoch"))
    first = chart.get_attribute("aria-valuetext") or ""
    page.keyboard.press("ArrowRight")
    expect(chart).not_to_have_attribute("aria-valuetext", first)


def test_filters_follow_the_history(open_page: OpenPage, finished_job: dict[str, Any]) -> None:
    page = open_page("/#/jobs?state=failed&q=no-such-name").page
    expect(page.get_by_text("No job matches these filters")).to_be_visible()
    page.get_by_role("link", name="Show all jobs").click()
    every = page.get_by_role("link", name="All", exact=True)
    # The links keep the other filters, so they change with the address.
    expect(every).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Succeeded", exact=True).click()
    expect(page.locator("tbody .chip").first).to_have_text("Succeeded")
    page.go_back()
    expect(every).to_have_attribute("aria-current", "true")


def test_new_project_shows_how_to_post_a_job(open_page: OpenPage, api: httpx.Client) -> None:
    project = api.post("/v1/projects", json={"name": "empty"}).raise_for_status().json()
    page = open_page("/", key=project["api_key"]).page
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(page.get_by_role("region", name="The first job with curl")).to_contain_text("/v1/jobs")


def test_unknown_job_shows_a_notice(open_page: OpenPage) -> None:
    page = open_page("/#/jobs/job_nothing").page
    expect(page.get_by_role("alert")).to_contain_text("There is no such job")
