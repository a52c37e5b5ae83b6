"""What holds for every page: names stay text, both themes are accessible, a phone suffices."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack")]
PHONE = {"width": 360, "height": 740}
RUN_AXE = """async () => {
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await axe.run(document, { runOnly: tags });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}"""


def settle(page: Page, name: str) -> None:
    """Wait until the page is whole."""
    if name == "job":
        expect(page.get_by_role("region", name="Outcome")).to_be_visible()
        expect(page.locator("figure canvas").first).to_be_visible()
    elif name == "jobs":
        expect(page.locator("tbody .name").first).to_be_visible()
    else:
        expect(page.get_by_label("API key")).to_be_visible()


def address(name: str, finished: dict[str, Any]) -> str:
    return {"login": "/login#used", "jobs": "/", "job": f"/#/jobs/{finished['id']}"}[name]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["login", "jobs", "job"])
def test_accessible(
    opened: Opened, finished: dict[str, Any], axe: str, name: str, theme: str
) -> None:
    key = None if name == "login" else ""
    page = opened(address(name, finished), key=key, color_scheme=theme).page
    settle(page, name)
    page.evaluate(axe)
    assert page.evaluate(RUN_AXE) == []
    if name != "job":
        return
    for tab in ("Artifacts", "Events & log", "Configuration", "Runs"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).not_to_contain_text("Loading")
        assert page.evaluate(RUN_AXE) == []


@pytest.mark.parametrize("name", ["login", "jobs", "job"])
def test_phone_needs_no_sideways_scrolling(
    opened: Opened, finished: dict[str, Any], name: str
) -> None:
    key = None if name == "login" else ""
    page = opened(address(name, finished), key=key, viewport=PHONE).page
    settle(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_names_are_shown_literally(opened: Opened, finished: dict[str, Any]) -> None:
    name = finished["resolved"]["name"]
    page = opened("/").page
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("h1")).to_have_text(name)
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_role("region", name="As resolved")).to_contain_text("onerror=__x=1")


def test_keyboard_alone(opened: Opened, finished: dict[str, Any]) -> None:
    page = opened("/").page
    settle(page, "jobs")
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
