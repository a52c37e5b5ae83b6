"""What holds for every page: names stay text, both themes are accessible, a phone suffices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import Opened

pytestmark = pytest.mark.browser
Json = dict[str, Any]
PHONE = {"width": 360, "height": 740}
EVERYTHING = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_SIZE_AND_COLOR = ["color-contrast", "link-in-text-block", "target-size", "meta-viewport"]
OF_SIZE_AND_COLOR += ["scrollable-region-focusable", "css-orientation-lock"]
"""What axe can say of a page in another theme and size that it has not said before."""
RUN_AXE = """async (rules) => {
  const { violations } = await axe.run(document, { runOnly: rules });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}"""


@dataclass(frozen=True)
class View:
    """A page as an address shows it, and what is there once it is whole."""

    address: str
    whole: Callable[[Page], Locator]


def region(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("region", name=name, exact=True)


def heading(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("heading", name=name, exact=True)


def button(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("button", name=name, exact=True)


def found(selector: str) -> Callable[[Page], Locator]:
    return lambda page: page.locator(selector).first


JOB = "/#/jobs/{job}"
VIEWS = {
    "login": View("/login#used", lambda page: page.get_by_label("API key")),
    "jobs": View("/", found("tbody .name")),
    "jobs, filtered": View("/#/jobs?method=kd", found("tbody .name")),
    "job": View(f"{JOB}?tab=report", region("Confusion")),
    "job, metrics": View(f"{JOB}?tab=metrics", found(".metrics summary")),
    "job, log": View(f"{JOB}?tab=log", found(".log time")),
    "job, artifacts": View(f"{JOB}?tab=artifacts", found("main code")),
    "job, configuration": View(f"{JOB}?tab=config&diff={{other}}", region("Differences")),
    "job, runs": View(f"{JOB}?tab=runs", found("[role=tabpanel] table")),
    "job, lineage": View(f"{JOB}?tab=lineage", region("What has come of it")),
    "new": View("/#/new?from={job}", button("Start job")),
    "compare": View("/#/compare?jobs={job},{other}", heading("Results")),
    "compare, empty": View("/#/compare", heading("Which jobs?")),
    "frontier": View("/#/frontier", found(".scatter [role=option]")),
    "student": View("/#/students/{job}", heading("Model card")),
    "data sets": View("/#/catalog?open={dataset}", region("Classes of digits")),
    "models": View("/#/catalog?tab=models", found(".shelf")),
    "architectures": View(
        "/#/catalog?tab=architectures&q=resnet20&open=cifar/resnet20",
        region("Taps of cifar/resnet20"),
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
def test_accessible_in_both_themes_and_on_a_phone(
    opened: Opened, finished: Json, taught: Json, dataset: str, axe: str, name: str
) -> None:
    view = VIEWS[name]
    address = view.address.format(job=taught["id"], other=finished["id"], dataset=dataset)
    page = opened(address, key=None if name == "login" else "", color_scheme="light").page
    expect(view.whole(page)).to_be_visible()
    page.evaluate(axe)
    assert page.evaluate(RUN_AXE, EVERYTHING) == []
    # The same page in the other theme, on a phone.
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    expect(view.whole(page)).to_be_visible()
    # Charts are drawn anew for a narrower page, a frame or a few after it has become so.
    page.wait_for_function(
        "width => document.documentElement.scrollWidth <= width", arg=PHONE["width"]
    )
    assert page.evaluate(RUN_AXE, OF_SIZE_AND_COLOR) == []


def test_names_are_shown_literally(opened: Opened, finished: dict[str, Any]) -> None:
    name = finished["resolved"]["name"]
    page = opened("/").page
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("h1")).to_have_text(name)
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_role("region", name="As resolved")).to_contain_text("onerror=__x=1")


def test_an_unknown_address_says_so(opened: Opened) -> None:
    page = opened("/#/nowhere").page
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="Show the jobs").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def test_keyboard_alone(opened: Opened, finished: dict[str, Any]) -> None:
    page = opened("/").page
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
    first = chart.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert first
    assert first.startswith("Epoch")
    assert chart.get_attribute("aria-valuetext") != first


def test_filters_are_in_the_address(opened: Opened, finished: dict[str, Any]) -> None:
    page = opened("/#/jobs?state=failed&q=nothing-like-this").page
    expect(page.get_by_text("No job fits these filters")).to_be_visible()
    page.get_by_role("link", name="Show all jobs").click()
    page.get_by_role("link", name="Succeeded", exact=True).click()
    expect(page.locator("tbody .chip").first).to_have_text("Succeeded")
    page.go_back()
    expect(page.get_by_role("link", name="All", exact=True)).to_have_attribute(
        "aria-current", "true"
    )


def test_new_project_is_told_how_to_begin(opened: Opened, api: httpx.Client) -> None:
    project = api.post("/v1/projects", json={"name": "empty"}).raise_for_status().json()
    page = opened("/", key=project["api_key"]).page
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(page.get_by_role("region", name="The first job with curl")).to_contain_text("/v1/jobs")


def test_unknown_job_is_told(opened: Opened) -> None:
    page = opened("/#/jobs/job_nothing").page
    expect(page.get_by_role("alert")).to_contain_text("There is no such job")
