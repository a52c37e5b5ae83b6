"""The frontier of students.

Other tests may add students, so the expected numbers come from the API.
"""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import OpenPage, clipboard_text, wait_for_state

pytestmark = pytest.mark.browser
Json = dict[str, Any]


@pytest.fixture
def points(api: httpx.Client, dataset: str, distilled_job: Json) -> list[Json]:
    """The points of the API, ordered by latency."""
    frontier = api.get("/v1/frontier", params={"dataset": dataset}).raise_for_status().json()
    return list(frontier["data"])


def open_frontier(open_page: OpenPage, address: str, **options: Any) -> Page:
    page = open_page(address, **options).page
    expect(dots(page).first).to_be_visible()
    return page


def dots(page: Page, name: str | None = None) -> Locator:
    return page.get_by_role("listbox", name="Networks by").get_by_role("option", name=name)


def test_networks_are_points_and_rows(
    open_page: OpenPage, dataset: str, points: list[Json]
) -> None:
    page = open_frontier(open_page, "/#/frontier")
    expect(page.get_by_label("Data set")).to_have_value(dataset)
    expect(dots(page, "on the frontier").first).to_be_visible()
    expect(dots(page, "the teacher: ")).to_have_attribute(
        "aria-label", "the teacher: " + point_words(points, "the teacher") + ", teacher"
    )
    table = page.get_by_role("region", name="Networks, as a table")
    expect(table.get_by_role("row")).to_have_count(1 + len(points))
    num_on_frontier = sum(point["on_frontier"] for point in points)
    cells = table.locator("tbody tr td:nth-child(3)")
    expect(cells.filter(has_text="yes")).to_have_count(num_on_frontier)


def point_words(points: list[Json], name: str) -> str:
    point = next(point for point in points if point["name"] == name)
    latency = point["latency_ms"]
    return f"latency {latency:.{2 if latency < 10 else 1}f} ms, top-1 {point['top1']:.1f} %"


def test_limits_count_qualified_students(open_page: OpenPage, points: list[Json]) -> None:
    page = open_frontier(open_page, "/#/frontier")
    students = [point for point in points if point["role"] == "student"]
    total = len(students)
    verdict = page.locator("[role=status].verdict")
    expect(verdict).to_contain_text(f"{total} of {total} students qualify; the fastest ")
    # Just above the worst students, so that only these do not qualify.
    limit = round(min(point["top1"] for point in students) + 0.01, 3)
    num_qualified = sum(point["top1"] >= limit for point in students)
    page.get_by_label("Top-1 at least", exact=True).fill(f"{limit:g}")
    expect(verdict).to_contain_text(f"{num_qualified or 'None'} of {total} students qualif")
    page.wait_for_url(f"**min_y={limit:g}*")
    expect(page.locator(".scatter .limit")).to_have_count(1)
    slider = page.get_by_role("slider", name="Top-1 at least, slider")
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "any")
    expect(verdict).to_contain_text(f"{total} of {total} students qualify")
    page.wait_for_url(lambda url: "min_y" not in url)  # the address follows after a pause
    page.goto("/#/frontier?max_x=0.000001")
    expect(verdict).to_contain_text(f"None of {total} students qualifies")
    expect(page.get_by_label("Latency at most", exact=True)).to_have_value("0.000001")


def test_table_sorts_and_copies(open_page: OpenPage, points: list[Json]) -> None:
    page = open_frontier(
        open_page, "/#/frontier", permissions=["clipboard-read", "clipboard-write"]
    )
    table = page.get_by_role("region", name="Networks, as a table")
    header = table.get_by_role("columnheader", name="Top-1")
    expect(table.get_by_role("columnheader", name="Latency, p50")).to_have_attribute(
        "aria-sort", "ascending"
    )
    for order in ("ascending", "descending"):
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", order)
    column = [float(text.split()[0]) for text in table.locator("td:nth-child(5)").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    page.wait_for_url("**sort=-top1*")
    page.get_by_role("button", name="Copy as CSV").click()
    header_line, *rows = clipboard_text(page, "name,role").splitlines()
    assert header_line.startswith("name,role,job,model,")
    assert len(rows) == len(points)
    assert any(row.startswith("'=hardly taught,student,") for row in rows)  # no formula


def test_keyboard_selects_points_for_comparison(
    open_page: OpenPage, points: list[Json], distilled_job: Json, finished_job: Json
) -> None:
    page = open_frontier(open_page, "/#/frontier")
    page.locator(".scatter [tabindex='0']").focus()
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2)):
        page.keyboard.press(key)
        point_key = points[index]["model"] or points[index]["job"]
        expect(page.locator(f"[data-key='{point_key}']")).to_be_focused()
        expect(page.locator(".tip")).to_contain_text(points[index]["name"])
    page.locator(f"[data-key='{distilled_job['id']}']").focus()
    page.keyboard.press("Enter")
    card = page.get_by_role("region", name="=hardly taught")
    expect(card.get_by_role("heading")).to_be_focused()
    expect(card).to_contain_text("cifar/resnet8")
    card.get_by_role("button", name="Add to compare").click()
    page.keyboard.press("Escape")
    expect(page.locator(f"[data-key='{distilled_job['id']}']")).to_be_focused()
    page.get_by_role("checkbox", name=f"Compare {finished_job['name']}").check()
    page.wait_for_url(f"**jobs={distilled_job['id']},{finished_job['id']}*")
    page.reload()
    page.get_by_role("link", name="Compare 2 jobs").click()
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    assert page.url.endswith(f"#/compare?jobs={distilled_job['id']},{finished_job['id']}")


def test_data_set_without_jobs_shows_an_empty_state(
    open_page: OpenPage, api: httpx.Client, dataset: str, distilled_job: Json
) -> None:
    body = {"name": "unused", "source": "builtin:digits", "split_seed": 7}
    created: Json = api.post("/v1/datasets", json=body).raise_for_status().json()
    wait_for_state(api, f"/v1/datasets/{created['id']}", "ready")
    page = open_page(f"/#/frontier?dataset={created['id']}").page
    expect(page.get_by_text("No finished jobs on this data set")).to_be_visible()
    page.get_by_label("Data set").select_option(dataset)
    expect(dots(page, "the teacher: ")).to_be_visible()
    page.get_by_role("group", name="X axis").get_by_role("button", name="Size").click()
    expect(page.locator(".scatter")).to_contain_text("Size, MB")
    assert "x=size_bytes" in page.url
