"""Which student to take, with a teacher beside them. Others' tests may add students: what is
expected is counted from the API's own answer."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import Opened, wait

pytestmark = pytest.mark.browser
Json = dict[str, Any]


@pytest.fixture
def points(api: httpx.Client, dataset: str, taught: Json) -> list[Json]:
    """What the API says, by latency."""
    answer = api.get("/v1/frontier", params={"dataset": dataset}).raise_for_status().json()
    return list(answer["data"])


def show(opened: Opened, address: str, **options: Any) -> Page:
    page = opened(address, **options).page
    expect(dots(page).first).to_be_visible()
    return page


def dots(page: Page, name: str | None = None) -> Locator:
    return page.get_by_role("listbox", name="Networks by").get_by_role("option", name=name)


def test_every_network_is_a_point_and_a_row(
    opened: Opened, dataset: str, points: list[Json]
) -> None:
    page = show(opened, "/#/frontier")
    expect(page.get_by_label("Data set")).to_have_value(dataset)
    expect(dots(page, "on the frontier").first).to_be_visible()
    expect(dots(page, "the teacher: ")).to_have_attribute(
        "aria-label", "the teacher: " + words(points, "the teacher") + ", teacher"
    )
    table = page.get_by_role("region", name="Networks, a table")
    expect(table.get_by_role("row")).to_have_count(1 + len(points))
    ahead = sum(point["on_frontier"] for point in points)
    column = table.locator("tbody tr td:nth-child(3)")
    assert column.all_inner_texts().count("yes") == ahead


def words(points: list[Json], name: str) -> str:
    point = next(each for each in points if each["name"] == name)
    latency = point["latency_ms"]
    return f"latency {latency:.{2 if latency < 10 else 1}f} ms, top-1 {point['top1']:.1f} %"


def test_limits_say_who_qualifies(opened: Opened, points: list[Json]) -> None:
    page = show(opened, "/#/frontier")
    students = [point for point in points if point["role"] == "student"]
    total = len(students)
    verdict = page.locator("[role=status].verdict")
    expect(verdict).to_contain_text(f"{total} of {total} students qualify; the fastest ")
    # Just above the worst: it alone, or those as bad as it, fall out.
    least = round(min(point["top1"] for point in students) + 0.01, 3)
    left = sum(point["top1"] >= least for point in students)
    page.get_by_label("Top-1 at least", exact=True).fill(f"{least:g}")
    expect(verdict).to_contain_text(f"{left or 'None'} of {total} students qualif")
    page.wait_for_url(f"**min_y={least:g}*")
    expect(page.locator(".scatter .limit")).to_have_count(1)
    slider = page.get_by_role("slider", name="Top-1 at least, slider")
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "any")
    expect(verdict).to_contain_text(f"{total} of {total} students qualify")
    page.goto("/#/frontier?max_x=0.000001")
    expect(verdict).to_contain_text(f"None of {total} students qualifies")
    expect(page.get_by_label("Latency at most", exact=True)).to_have_value("0.000001")


def test_table_sorts_and_copies(opened: Opened, points: list[Json]) -> None:
    page = show(opened, "/#/frontier", permissions=["clipboard-read", "clipboard-write"])
    table = page.get_by_role("region", name="Networks, a table")
    head = table.get_by_role("columnheader", name="Top-1")
    expect(table.get_by_role("columnheader", name="Latency, p50")).to_have_attribute(
        "aria-sort", "ascending"
    )
    for way in ("ascending", "descending"):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", way)
    column = [float(text.split()[0]) for text in table.locator("td:nth-child(5)").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    page.wait_for_url("**sort=-top1*")
    page.get_by_role("button", name="Copy as CSV").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    head_line, *rows = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert head_line.startswith("name,role,job,model,")
    assert len(rows) == len(points)
    assert any(row.startswith("'=hardly taught,student,") for row in rows)  # no formula


def test_points_by_keyboard_and_the_way_to_compare(
    opened: Opened, points: list[Json], taught: Json, finished: Json
) -> None:
    page = show(opened, "/#/frontier")
    page.locator(".scatter [tabindex='0']").focus()
    for key, at in (("Home", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2)):
        page.keyboard.press(key)
        key_of = points[at]["model"] or points[at]["job"]
        expect(page.locator(f"[data-key='{key_of}']")).to_be_focused()
        expect(page.locator(".tip")).to_contain_text(points[at]["name"])
    page.locator(f"[data-key='{taught['id']}']").focus()
    page.keyboard.press("Enter")
    card = page.get_by_role("region", name="=hardly taught")
    expect(card.get_by_role("heading")).to_be_focused()
    expect(card).to_contain_text("cifar/resnet8")
    card.get_by_role("button", name="Add to compare").click()
    page.keyboard.press("Escape")
    expect(page.locator(f"[data-key='{taught['id']}']")).to_be_focused()
    page.get_by_role("checkbox", name=f"Compare {finished['name']}").check()
    page.wait_for_url(f"**jobs={taught['id']},{finished['id']}*")
    page.reload()
    page.get_by_role("link", name="Compare 2 jobs").click()
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    assert page.url.endswith(f"#/compare?jobs={taught['id']},{finished['id']}")


def test_a_data_set_without_jobs(opened: Opened, api: httpx.Client, taught: Json) -> None:
    body = {"name": "unused", "source": "builtin:digits", "split_seed": 7}
    made: Json = api.post("/v1/datasets", json=body).raise_for_status().json()
    wait(api, f"/v1/datasets/{made['id']}", "ready")
    page = opened(f"/#/frontier?dataset={made['id']}").page
    expect(page.get_by_text("No finished jobs on this data set")).to_be_visible()
    page.get_by_label("Data set").select_option(label="digits")
    expect(dots(page, "the teacher: ")).to_be_visible()
    page.get_by_role("group", name="Along").get_by_role("button", name="Size").click()
    expect(page.locator(".scatter")).to_contain_text("Size, MB")
    assert "x=size_bytes" in page.url
