"""The form of a new job: validation, fixes, copies, uploads, drafts."""

import base64
import io
import json
import re
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import OpenPage

pytestmark = pytest.mark.browser
Json = dict[str, Any]
# A drop event with a file.
DROP = """(zone, [name, content]) => {
  const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  zone.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def select_field(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name, exact=True)


def start_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Start job")


def shown_body(page: Page) -> Json:
    """The body of the job in the curl command."""
    text = page.get_by_role("region", name="The job by curl").inner_text()
    body: Json = json.loads(text.split("--json '")[1].rstrip("'").replace("'\\''", "'"))
    return body


def image_archive(broken: int = 0) -> bytes:
    """A zip of twelve small images in each of two classes; the first ``broken`` are no images."""
    rng = np.random.default_rng(0)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(24):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(image, "PNG")
            content = b"no image" if number < broken else image.getvalue()
            file.writestr(f"{'cats' if number % 2 else 'dogs'}/{number}.png", content)
    return archive.getvalue()


def test_filled_form_starts_a_job(
    open_page: OpenPage, api: httpx.Client, teacher: Json, dataset: str
) -> None:
    page = open_page("/#/new").page
    select_field(page, "Data set").select_option(dataset_value(dataset))
    select_field(page, "Teacher").select_option(teacher["id"])
    expect(select_field(page, "Teacher")).to_be_focused()
    select_field(page, "Architecture").press_sequentially("resnet8")
    page.get_by_role("option", name=re.compile("^cifar.resnet8 ")).click()
    page.get_by_role("checkbox", name="kd", exact=True).check()
    page.get_by_label("Temperature").fill("3")
    page.get_by_label("Epochs", exact=True).fill("1")
    panel = page.get_by_role("complementary", name="This job")
    expect(panel.locator(".gist")).to_have_text("resnet8 → resnet8 by kd")
    expect(panel).to_contain_text("2 of 1 epochs")  # student and undistilled student
    assert shown_body(page)["method"] == {"type": "kd", "temperature": 3}
    start_button(page).click()
    page.wait_for_url(re.compile("#/jobs/job_"))
    job = api.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}").raise_for_status().json()
    assert job["method"]["temperature"] == 3
    assert job["teachers"][0]["model"] == teacher["id"]
    assert job["training"]["epochs"] == 1
    api.post(f"/v1/jobs/{job['id']}/cancel")


def dataset_value(dataset: str) -> str:
    return json.dumps(dataset)


def test_issues_appear_at_their_fields_with_fixes(open_page: OpenPage, dataset: str) -> None:
    page = open_page(f"/#/new?dataset={dataset}").page
    expect(start_button(page)).to_be_disabled()
    page.get_by_role("checkbox", name="kd", exact=True).check()
    page.get_by_role("button", name="Student", exact=True).click()
    select_field(page, "Architecture").fill("cifar/resnet8")
    temperature = page.get_by_label("Temperature")
    temperature.fill("-4")
    expect(temperature).to_have_attribute("aria-invalid", "true")
    expect(temperature).to_have_accessible_description(re.compile("greater than or equal to 0.01"))
    expect(start_button(page)).to_be_disabled()
    temperature.fill("")
    expect(temperature).not_to_have_attribute("aria-invalid", "true")  # validated again
    expect(select_field(page, "Teacher")).to_have_accessible_description(
        re.compile("needs a teacher")
    )
    page.get_by_role("region", name="Teachers").get_by_role("button", name="Use this").click()
    expect(page.get_by_role("checkbox", name="supervised")).to_be_checked()
    expect(start_button(page)).to_be_enabled()
    assert shown_body(page)["method"] == "supervised"


def test_copied_job_has_the_posted_fields(
    open_page: OpenPage, api: httpx.Client, teacher: Json, dataset: str
) -> None:
    body = {
        "name": 'it\'s "old"',
        "teachers": [{"model": teacher["id"]}],
        "student": {"derive": "teacher", "groups": 2},
        "dataset": dataset,
        "method": [{"type": "attention", "form": "paper", "weight": 1000}, {"type": "dkd"}],
        "scheme": {"type": "born_again", "generations": 2},
        "training": {"epochs": 1, "early_stopping": {}, "augmentation": [{"type": "none"}]},
        "labels": {"team": "vision"},
    }
    job = api.post("/v1/jobs", json=body).raise_for_status().json()
    api.post(f"/v1/jobs/{job['id']}/cancel")
    page = open_page(f"/#/new?from={job['id']}").page
    expect(page.get_by_label("Name", exact=True)).to_have_value(f"{body['name']} (copy)")
    expect(page.get_by_label("Groups")).to_have_value("2")
    expect(start_button(page)).to_be_enabled()
    assert shown_body(page) == body | {"name": f"{body['name']} (copy)"}


def test_architecture_is_chosen_by_keyboard(open_page: OpenPage) -> None:
    page = open_page("/#/new").page
    box = select_field(page, "Architecture")
    box.focus()
    page.keyboard.type("vgg8 cifar")
    listed = page.get_by_role("listbox", name="Architecture").get_by_role("option")
    expect(listed.first).to_contain_text("parameters")
    expect(page.locator(".popup [role=status]")).to_have_text("")  # all pages are loaded
    expect(box).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    first = listed.first.get_attribute("data-name")
    assert first
    active = box.get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(box).to_have_value(first)
    expect(box).to_have_attribute("aria-expanded", "false")
    # The search covers all pages of the list, and a closed list keeps the typed text.
    box.fill("timm xcit_tiny_12_p8_224")
    expect(listed.first).to_contain_text("xcit_tiny_12_p8_224")
    page.keyboard.press("Escape")
    expect(listed).to_have_count(0)


def test_uploaded_files_are_selected(
    open_page: OpenPage, api: httpx.Client, finished_job: Json, dataset: str
) -> None:
    page = open_page("/#/new").page
    section = page.get_by_role("region", name="Data set")
    section.get_by_text("Add a data set").click()
    bad = {"name": "bad.zip", "mimeType": "application/zip", "buffer": image_archive(broken=2)}
    section.get_by_label("Choose a file").set_input_files(bad)
    section.get_by_role("button", name="Upload").click()
    expect(section.get_by_role("alert")).to_contain_text("bad cannot be used")
    expect(section.get_by_role("listitem")).to_have_count(2)
    section.get_by_label("Choose a file").set_input_files(
        {**bad, "name": "pets.zip", "buffer": image_archive()}
    )
    section.get_by_label("Name").fill("pets")
    section.get_by_role("button", name="Upload").click()
    # The upload ends while the user types: text and focus stay.
    name = page.get_by_label("Name", exact=True).first
    name.press_sequentially("by hand")
    expect(select_field(page, "Data set").locator("option:checked")).to_contain_text(
        "pets · 2 classes · 24 images"
    )
    expect(name).to_be_focused()
    name.press_sequentially("!")
    expect(name).to_have_value("by hand!")

    select_field(page, "Data set").select_option(dataset_value(dataset))
    section = page.get_by_role("region", name="Teachers")
    if section.locator("details").last.get_attribute("open") is None:
        section.get_by_text("Add a teacher").click()
    weights = api.get(f"/v1/jobs/{finished_job['id']}/student").raise_for_status().content
    section.locator(".drop").evaluate(DROP, ["big.safetensors", base64.b64encode(weights).decode()])
    section.get_by_role("combobox", name="Architecture").fill("cifar/resnet8")
    page.keyboard.press("Tab")
    expect(section.get_by_label("Classes")).to_have_value("")
    section.get_by_role("button", name="Upload").click()
    expect(select_field(page, "Teacher").locator("option:checked")).to_contain_text("big · resnet8")
    expect(page.get_by_role("region", name="The job by curl")).to_contain_text("mdl_")


def test_draft_survives_a_visit_to_another_page(open_page: OpenPage, dataset: str) -> None:
    page = open_page("/#/new").page
    page.get_by_label("Name", exact=True).fill("half done")
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator("h1")).to_have_text("Jobs")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="New job").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("half done")
    page.get_by_role("button", name="Start over").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    page.get_by_role("button", name="Restore the previous draft").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("half done")
