"""The catalog: data sets, models and built-in entries; renaming and deleting."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import OpenPage

pytestmark = pytest.mark.browser


def test_data_set_shows_its_classes_and_images(
    open_page: OpenPage, api: httpx.Client, dataset: str
) -> None:
    page = open_page("/#/catalog").page
    search(page, dataset)
    page.get_by_role("button", name="digits", exact=True).click()
    rows = page.get_by_role("region", name="Classes of digits").locator("tbody tr")
    expect(rows).to_have_count(10)
    splits = api.get(f"/v1/datasets/{dataset}").json()["splits"]
    counts = [str(splits[split]["per_class"]["7"]) for split in ("train", "val", "test")]
    expect(rows.nth(7).locator(".num")).to_have_text(counts)
    images = rows.locator("img")
    expect(images).to_have_count(20)
    loaded = "images => images.every((image) => image.complete && image.naturalWidth === 8)"
    page.wait_for_function(f"({loaded})([...document.querySelectorAll('.thumbs img')])")
    row = api.get(f"/v1/datasets/{dataset}/images?split=test").json()["data"][14]
    expect(images.nth(14)).to_have_attribute("alt", f"class 7, row {row['row']}")
    # The address shows the same after a reload.
    assert f"open={dataset}" in page.url
    page.reload()
    expect(images).to_have_count(20)


def test_data_set_in_use_is_not_deleted(
    open_page: OpenPage, api: httpx.Client, finished_job: dict[str, Any], dataset: str
) -> None:
    page = open_page(f"/#/catalog?tab=datasets&open={dataset}").page
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the data set").click()
    expect(page.get_by_role("alert")).to_contain_text("in use and was not deleted")
    link = page.get_by_role("alert").get_by_role("link")
    assert api.get(f"/v1/jobs/{link.inner_text()}").json()["dataset"] == dataset
    assert api.get(f"/v1/datasets/{dataset}").json()["state"] == "ready"


def test_empty_catalog_offers_the_built_in_digits(open_page: OpenPage, api: httpx.Client) -> None:
    project = api.post("/v1/projects", json={"name": "bare"}).raise_for_status().json()
    page = open_page("/#/catalog", key=project["api_key"]).page
    page.get_by_role("button", name="Add the built-in digits").click()
    # The page polls until the data set is ready. No job uses it, so it can be deleted.
    row = page.get_by_role("row", name="digits")
    expect(row).to_contain_text("Ready")
    page.get_by_role("button", name="digits").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the data set").click()
    expect(page.get_by_text("No data sets yet")).to_be_visible()


def test_model_is_renamed_unless_it_has_changed(
    open_page: OpenPage, api: httpx.Client, finished_job: dict[str, Any]
) -> None:
    body = {"name": "as it was", "source": f"job:{finished_job['id']}"}
    model = api.post("/v1/models", json=body).raise_for_status().json()["id"]
    monitored = open_page(f"/#/catalog?tab=models&open={model}")
    page = monitored.page
    expect(page.get_by_role("link", name="Use as teacher")).to_have_attribute(
        "href", f"#/new?teacher={model}"
    )
    rename(page, "mine")
    expect(page.get_by_role("button", name="mine", exact=True)).to_be_visible()
    assert api.get(f"/v1/models/{model}").json()["name"] == "mine"
    # A change by someone else is not overwritten.
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_label("New name")).to_have_value("mine")
    api.patch(f"/v1/models/{model}", json={"name": "theirs"}).raise_for_status()
    page.get_by_label("New name").fill("mine again")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Someone else has changed this model")
    expect(page.get_by_label("New name")).to_have_value("theirs")
    assert api.get(f"/v1/models/{model}").json()["name"] == "theirs"
    monitored.errors[:] = [error for error in monitored.errors if "status of 412" not in error]


def rename(page: Page, name: str) -> None:
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill(name)
    page.keyboard.press("Enter")


def test_architectures_are_searched_and_sorted(open_page: OpenPage, api: httpx.Client) -> None:
    page = open_page("/#/catalog?tab=architectures").page
    expect(page.get_by_text("1,154 of 1,154")).to_be_visible()
    # Typing may begin before the event of the changed address; the text stays.
    page.get_by_role("link", name="cifar", exact=True).click()
    search(page, "RESNET20")
    expect(page.get_by_text("1 of 1,154")).to_be_visible()
    name = page.get_by_role("button", name="cifar/resnet20")
    expect(page.get_by_role("row").filter(has=name)).to_contain_text("278 k")
    name.click()
    entry = api.get("/v1/architectures/cifar/resnet20").json()
    expect(page.get_by_text(f"{entry['num_params']:,}")).to_be_visible()
    layers = page.get_by_role("region", name="Feature layers of cifar/resnet20")
    expect(layers.locator("tbody tr")).to_have_count(len(entry["taps"]))
    expect(page.get_by_role("link", name="Use as student")).to_have_attribute(
        "href", "#/new?student=cifar%2Fresnet20"
    )
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_text("22 of 1,154")).to_be_visible()
    page.get_by_label("Order").select_option("Most parameters")
    largest = max(cifar_architectures(api), key=lambda entry: entry["num_params"])
    expect(page.locator(".opener").first).to_have_text(largest["name"])


def cifar_architectures(api: httpx.Client) -> list[dict[str, Any]]:
    """The entries of the family, which are on the first page."""
    data: list[dict[str, Any]] = api.get("/v1/architectures?limit=200").json()["data"]
    return [entry for entry in data if entry["name"].startswith("cifar/")]


def test_method_shows_formula_paper_and_fields(open_page: OpenPage, api: httpx.Client) -> None:
    page = open_page("/#/catalog?tab=datasets").page
    page.get_by_role("tab", name="Methods").click()
    cards = page.get_by_role("article")
    expect(cards).to_have_count(18)
    search(page, "dkd")
    card = cards.filter(has=page.get_by_role("heading", name="dkd", exact=True))
    method = api.get("/v1/methods/dkd").json()
    expect(card).to_contain_text(method["formula"])
    expect(card).to_contain_text(method["when_to_use"])
    card.get_by_text("Fields, paper and more").click()
    expect(card).to_contain_text(method["paper"])
    fields = card.get_by_role("region", name="Fields of dkd")
    expect(fields.locator("tbody tr")).to_have_count(len(method["params"]["properties"]) - 1)
    row = fields.get_by_role("row", name="temperature")
    expect(row).to_contain_text("number, 0.01 to 1,000")
    expect(row.locator("td").nth(1)).to_have_text("4")
    page.get_by_role("tab", name="Schemes").click()
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.get_by_role("article").filter(visible=True)).to_have_count(5)


def search(page: Page, text: str) -> None:
    """Search with the keyboard, and wait for the address."""
    expect(page.get_by_role("searchbox")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(text)
    page.wait_for_url(f"**q={text}*")
