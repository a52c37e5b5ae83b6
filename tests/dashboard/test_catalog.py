"""The catalog: looking at what there is, and renaming and deleting what is one's own."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Opened

pytestmark = pytest.mark.browser
MINUTE = 60_000


def test_data_set_shows_its_classes_and_images(
    opened: Opened, api: httpx.Client, dataset: str
) -> None:
    page = opened("/#/catalog").page
    find(page, dataset)
    page.get_by_role("button", name="digits", exact=True).click()
    rows = page.get_by_role("region", name="Classes of digits").locator("tbody tr")
    expect(rows).to_have_count(10)
    known = api.get(f"/v1/datasets/{dataset}").json()["splits"]
    counts = [str(known[split]["per_class"]["7"]) for split in ("train", "val", "test")]
    expect(rows.nth(7).locator(".num")).to_have_text(counts)
    images = rows.locator("img")
    expect(images).to_have_count(20)
    loaded = "images => images.every((image) => image.complete && image.naturalWidth === 8)"
    page.wait_for_function(f"({loaded})([...document.querySelectorAll('.thumbs img')])")
    row = api.get(f"/v1/datasets/{dataset}/images?split=test").json()["data"][14]
    expect(images.nth(14)).to_have_attribute("alt", f"class 7, row {row['row']}")
    # The address leads back here.
    assert f"open={dataset}" in page.url
    page.reload()
    expect(images).to_have_count(20)


def test_data_set_in_use_stays(
    opened: Opened, api: httpx.Client, finished: dict[str, Any], dataset: str
) -> None:
    page = opened(f"/#/catalog?tab=datasets&open={dataset}").page
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the data set").click()
    expect(page.get_by_role("alert")).to_contain_text("in use, so it stays")
    link = page.get_by_role("alert").get_by_role("link")
    assert api.get(f"/v1/jobs/{link.inner_text()}").json()["dataset"] == dataset
    assert api.get(f"/v1/datasets/{dataset}").json()["state"] == "ready"


def test_first_data_set_is_a_click_away(opened: Opened, api: httpx.Client) -> None:
    project = api.post("/v1/projects", json={"name": "bare"}).raise_for_status().json()
    page = opened("/#/catalog", key=project["api_key"]).page
    page.get_by_role("button", name="Add the built-in digits").click()
    # It is looked at again until it is ready, and can go as long as no job needs it.
    row = page.get_by_role("row", name="digits")
    expect(row).to_contain_text("Ready", timeout=MINUTE)
    page.get_by_role("button", name="digits").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the data set").click()
    expect(page.get_by_text("No data sets yet")).to_be_visible()


def test_model_gets_another_name(
    opened: Opened, api: httpx.Client, finished: dict[str, Any]
) -> None:
    body = {"name": "as it was", "source": f"job:{finished['id']}"}
    model = api.post("/v1/models", json=body).raise_for_status().json()["id"]
    watched = opened(f"/#/catalog?tab=models&open={model}")
    page = watched.page
    expect(page.get_by_role("link", name="Teach with it")).to_have_attribute(
        "href", f"#/new?teacher={model}"
    )
    rename(page, "mine")
    expect(page.get_by_role("button", name="mine", exact=True)).to_be_visible()
    assert api.get(f"/v1/models/{model}").json()["name"] == "mine"
    # A name that someone else gave meanwhile is not lost.
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_label("New name")).to_have_value("mine")
    api.patch(f"/v1/models/{model}", json={"name": "theirs"}).raise_for_status()
    page.get_by_label("New name").fill("mine again")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Someone else has changed this model")
    expect(page.get_by_label("New name")).to_have_value("theirs")
    assert api.get(f"/v1/models/{model}").json()["name"] == "theirs"
    watched.complaints[:] = [each for each in watched.complaints if "status of 412" not in each]


def rename(page: Page, name: str) -> None:
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill(name)
    page.keyboard.press("Enter")


def test_architecture_is_found_among_all(opened: Opened, api: httpx.Client) -> None:
    page = opened("/#/catalog?tab=architectures").page
    expect(page.get_by_text("1,154 of 1,154")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="cifar", exact=True).click()
    find(page, "RESNET20")
    expect(page.get_by_text("1 of 1,154")).to_be_visible()
    name = page.get_by_role("button", name="cifar/resnet20")
    expect(page.get_by_role("row").filter(has=name)).to_contain_text("278 k")
    name.click()
    known = api.get("/v1/architectures/cifar/resnet20").json()
    expect(page.get_by_text(f"{known['num_params']:,}")).to_be_visible()
    taps = page.get_by_role("region", name="Taps of cifar/resnet20").locator("tbody tr")
    expect(taps).to_have_count(len(known["taps"]))
    expect(page.get_by_role("link", name="Use as student")).to_have_attribute(
        "href", "#/new?student=cifar%2Fresnet20"
    )
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_text("22 of 1,154")).to_be_visible()
    page.get_by_label("Order").select_option("Most parameters")
    largest = max(every(api, "cifar/"), key=lambda each: each["num_params"])
    expect(page.locator(".opener").first).to_have_text(largest["name"])


def every(api: httpx.Client, prefix: str) -> list[dict[str, Any]]:
    """The catalog begins with them."""
    data: list[dict[str, Any]] = api.get("/v1/architectures?limit=200").json()["data"]
    return [each for each in data if each["name"].startswith(prefix)]


def test_method_explains_itself(opened: Opened, api: httpx.Client) -> None:
    page = opened("/#/catalog?tab=datasets").page
    page.get_by_role("tab", name="Methods").click()
    cards = page.get_by_role("article")
    expect(cards).to_have_count(18)
    find(page, "dkd")
    card = cards.filter(has=page.get_by_role("heading", name="dkd", exact=True))
    known = api.get("/v1/methods/dkd").json()
    expect(card).to_contain_text(known["formula"])
    expect(card).to_contain_text(known["when_to_use"])
    card.get_by_text("Fields, paper and more").click()
    expect(card).to_contain_text(known["paper"])
    fields = card.get_by_role("region", name="Fields of dkd")
    expect(fields.locator("tbody tr")).to_have_count(len(known["params"]["properties"]) - 1)
    row = fields.get_by_role("row", name="temperature")
    expect(row).to_contain_text("number, 0.01 to 1,000")
    expect(row.locator("td").nth(1)).to_have_text("4")
    page.get_by_role("tab", name="Schemes").click()
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.get_by_role("article").filter(visible=True)).to_have_count(5)


def find(page: Page, text: str) -> None:
    expect(page.get_by_role("searchbox")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(text)
    page.wait_for_url(f"**q={text}*")
