"""Two jobs side by side, as somebody who has to choose between them would."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened, wait

pytestmark = pytest.mark.browser
Json = dict[str, Any]
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture(scope="module")
def longer(api: httpx.Client, post_job: Callable[..., str]) -> Json:
    return wait(api, f"/v1/jobs/{post_job('two | epochs', 2)}", "succeeded")


@pytest.fixture
def pair(opened: Opened, finished: Json, longer: Json) -> Page:
    """The page with the two jobs on it, the attack's name first."""
    address = f"/#/compare?jobs={finished['id']},{longer['id']}"
    page = opened(address, permissions=CLIPBOARD).page
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    return page


def keys(page: Page) -> list[str]:
    return page.get_by_role("list", name="Jobs compared").locator(".name").all_inner_texts()


def test_what_differs_and_by_how_much(pair: Page, finished: Json, longer: Json) -> None:
    assert keys(pair) == [finished["name"], longer["name"]]
    settings = pair.get_by_role("region", name="Settings that differ, as a table")
    row = settings.get_by_role(
        "row", name="Training \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} epochs"
    )
    expect(row.get_by_role("cell")).to_have_text(["1", "2"])
    expect(settings.get_by_role("row")).to_have_count(2)  # the head, and nothing that is equal
    top1 = pair.get_by_role("region", name="Results, as a table").get_by_role("row", name="Top-1")
    first, second = (job["result"]["student_top1"] for job in (finished, longer))
    expect(top1.get_by_role("cell").nth(0)).to_contain_text(f"{first:.2f} %")
    sign = "\N{MINUS SIGN}" if second < first else "+"
    delta = f"{sign}{abs(second - first):.2f} pt" if second != first else "the same"
    expect(top1.get_by_role("cell").nth(1)).to_contain_text(delta)
    # Where both are equally good, none is the best.
    expect(top1.get_by_text("best")).to_have_count(0 if first == second else 1)


def test_copies_are_tables_and_names_stay_in_their_cells(pair: Page, finished: Json) -> None:
    section = pair.get_by_role("region", name="Results", exact=True)
    section.get_by_role("button", name="Copy as Markdown").click()
    expect(section.get_by_role("button", name="Copied")).to_be_visible()
    lines = pair.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].startswith("| On the test split | A: ")
    assert lines[0].endswith("| B: two \\| epochs |")
    assert "\\<img" in lines[0]
    assert lines[1] == "| --- | ---: | ---: |"
    top1 = f"{finished['result']['student_top1']:.2f} %"
    assert any(line.startswith("| Top-1 |") and top1 in line for line in lines)
    section.get_by_role("button", name="Copy as CSV").click()
    expect(section.get_by_role("button", name="Copied")).to_have_count(2)
    head, *rows = pair.evaluate("navigator.clipboard.readText()").splitlines()
    assert head.startswith('metric,unit,"A: ""><img')
    assert f"student.top1,%,{finished['result']['student_top1']}," in rows[0]


def test_curves_over_any_axis(pair: Page) -> None:
    figure = pair.get_by_role("figure", name="Loss in training")
    expect(figure.locator(".summary")).to_contain_text("B ")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()
    figure.get_by_text("View as table").click()
    twin = figure.get_by_role("region", name="Loss in training as a table")
    expect(twin.get_by_role("columnheader")).to_have_text(["Epoch", "A", "B"])
    rows = twin.get_by_role("row").count()
    assert rows > 2
    pair.get_by_role("group", name="X axis").get_by_role("button", name="Step").click()
    expect(twin.get_by_role("columnheader")).to_have_text(["Step", "A", "B"])
    assert "x=step" in pair.url
    pair.reload()
    group = pair.get_by_role("group", name="X axis")
    expect(group.get_by_role("button", name="Step")).to_have_attribute("aria-pressed", "true")


def test_choosing_jobs(opened: Opened, finished: Json, longer: Json) -> None:
    page = opened("/#/compare").page
    expect(page.get_by_role("heading", name="Which jobs?")).to_be_visible()
    box = page.get_by_role("combobox", name="Add a job")
    for name, heading in (("two | ep", "One more job"), ("onerror", "Results")):
        box.fill(name)
        expect(page.get_by_role("option")).to_have_count(1)
        box.press("ArrowDown")
        box.press("Enter")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert keys(page) == [longer["name"], finished["name"]]
    page.get_by_role("button", name=f"{finished['name']} as reference").click()
    expect(page.locator(".compared .name").first).to_have_text(finished["name"])
    page.get_by_role("button", name=f"Remove {finished['name']}").click()
    expect(page.get_by_role("heading", name="One more job")).to_be_visible()
    assert page.url.endswith(f"jobs={longer['id']}")


def test_a_job_that_is_gone_can_be_left_out(opened: Opened, finished: Json, longer: Json) -> None:
    page = opened(f"/#/compare?jobs={finished['id']},job_nothing,{longer['id']}").page
    expect(page.get_by_role("alert")).to_contain_text("job_nothing")
    page.get_by_role("button", name="Compare without it").click()
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    assert keys(page) == [finished["name"], longer["name"]]
