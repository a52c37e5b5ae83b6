"""The comparison of jobs: differences of settings, results, curves."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import OpenPage, clipboard_text, wait_for_state

pytestmark = pytest.mark.browser
Json = dict[str, Any]
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture(scope="module")
def longer_job(api: httpx.Client, post_job: Callable[..., str]) -> Json:
    return wait_for_state(api, f"/v1/jobs/{post_job('two | epochs', 2)}", "succeeded")


@pytest.fixture
def comparison(open_page: OpenPage, finished_job: Json, longer_job: Json) -> Page:
    """The page with both jobs, the one with markup in its name first."""
    address = f"/#/compare?jobs={finished_job['id']},{longer_job['id']}"
    page = open_page(address, permissions=CLIPBOARD).page
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    return page


def assert_compared(page: Page, *jobs: Json) -> None:
    names = page.get_by_role("list", name="Jobs compared").locator(".name")
    expect(names).to_have_text([job["name"] for job in jobs])


def test_tables_show_different_settings_and_results(
    comparison: Page, finished_job: Json, longer_job: Json
) -> None:
    assert_compared(comparison, finished_job, longer_job)
    settings = comparison.get_by_role("region", name="Settings that differ, as a table")
    row = settings.get_by_role(
        "row", name="Training \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} epochs"
    )
    expect(row.get_by_role("cell")).to_have_text(["1", "2"])
    expect(settings.get_by_role("row")).to_have_count(2)  # the header and one setting
    top1 = comparison.get_by_role("region", name="Results, as a table").get_by_role(
        "row", name="Top-1"
    )
    first, second = (job["result"]["student_top1"] for job in (finished_job, longer_job))
    expect(top1.get_by_role("cell").nth(0)).to_contain_text(f"{first:.2f} %")
    sign = "\N{MINUS SIGN}" if second < first else "+"
    delta = f"{sign}{abs(second - first):.2f} pt" if second != first else "the same"
    expect(top1.get_by_role("cell").nth(1)).to_contain_text(delta)
    # No value is marked as the best if both are equal.
    expect(top1.get_by_text("best")).to_have_count(0 if first == second else 1)


def test_copied_tables_escape_names(comparison: Page, finished_job: Json) -> None:
    section = comparison.get_by_role("region", name="Results", exact=True)
    section.get_by_role("button", name="Copy as Markdown").click()
    lines = clipboard_text(comparison, "| On the test split").splitlines()
    assert lines[0].startswith("| On the test split | A: ")
    assert lines[0].endswith("| B: two \\| epochs |")
    assert "\\>\\<img src=x onerror=\\_\\_x=1\\>" in lines[0]
    assert lines[1] == "| --- | ---: | ---: |"
    top1 = f"{finished_job['result']['student_top1']:.2f} %"
    assert any(line.startswith("| Top-1 |") and top1 in line for line in lines)
    section.get_by_role("button", name="Copy as CSV").click()
    header, *rows = clipboard_text(comparison, "metric,unit").splitlines()
    assert header.startswith('metric,unit,"A: ""><img')
    assert f"student.top1,%,{finished_job['result']['student_top1']}," in rows[0]


def test_curves_change_their_axis(comparison: Page) -> None:
    figure = comparison.get_by_role("figure", name="Loss in training")
    expect(figure.locator(".summary")).to_contain_text("B ")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()
    figure.get_by_text("View as table").click()
    table = figure.get_by_role("region", name="Loss in training as a table")
    expect(table.get_by_role("columnheader")).to_have_text(["Epoch", "A", "B"])
    expect(table.get_by_role("row").nth(2)).to_be_visible()
    comparison.get_by_role("group", name="X axis").get_by_role("button", name="Step").click()
    expect(table.get_by_role("columnheader")).to_have_text(["Step", "A", "B"])
    assert "x=step" in comparison.url
    comparison.reload()
    group = comparison.get_by_role("group", name="X axis")
    expect(group.get_by_role("button", name="Step")).to_have_attribute("aria-pressed", "true")


def test_jobs_are_added_reordered_and_removed(
    open_page: OpenPage, finished_job: Json, longer_job: Json
) -> None:
    page = open_page("/#/compare").page
    expect(page.get_by_role("heading", name="Which jobs?")).to_be_visible()
    box = page.get_by_role("combobox", name="Add a job")
    for name, heading in (("two | ep", "One more job"), ("onerror", "Results")):
        box.fill(name)
        expect(page.get_by_role("option")).to_have_count(1)
        box.press("ArrowDown")
        box.press("Enter")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert_compared(page, longer_job, finished_job)
    page.get_by_role("button", name=f"{finished_job['name']} as reference").click()
    expect(page.locator(".compared .name").first).to_have_text(finished_job["name"])
    page.get_by_role("button", name=f"Remove {finished_job['name']}").click()
    expect(page.get_by_role("heading", name="One more job")).to_be_visible()
    assert page.url.endswith(f"jobs={longer_job['id']}")


def test_missing_job_can_be_dropped(
    open_page: OpenPage, finished_job: Json, longer_job: Json
) -> None:
    page = open_page(f"/#/compare?jobs={finished_job['id']},job_nothing,{longer_job['id']}").page
    expect(page.get_by_role("alert")).to_contain_text("job_nothing")
    page.get_by_role("button", name="Compare without it").click()
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    assert_compared(page, finished_job, longer_job)
