"""Names of 190 characters without a space break on every page and at every width."""

import io
import zipfile
from contextlib import suppress
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect
from sklearn.datasets import load_digits

from tests.dashboard.conftest import OpenPage, wait_for_state
from tests.helpers import upload, wait_until

pytestmark = pytest.mark.browser
Json = dict[str, Any]
WIDTHS = (320, 768, 1280, 1920)
MAX_LENGTH = 190
FIND_FAULTS = r"""(width) => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} px wide`);
  // The table of jobs is read as a whole; other tables may scroll.
  const jobs = document.querySelector(".scroll:has(> .jobs)");
  if (jobs?.scrollWidth > jobs?.clientWidth) faults.push(`the jobs need ${jobs.scrollWidth} px`);
  for (const node of document.querySelectorAll("body *")) {
    const texts = [...node.childNodes].filter(({ nodeType }) => nodeType === 3);
    const long = texts.some(({ data }) => /\S{60}/.test(data));
    if (!long || node.closest("pre, option, .hidden")) continue;
    const box = node.getBoundingClientRect();
    const frame = node.closest(".scroll, main, header, body");
    const { left, right } = frame.getBoundingClientRect();
    const inside = frame.matches(".scroll") ? box.width <= right - left : box.right <= right + 1;
    if (!inside) faults.push(`${node.tagName} of ${box.width} px: ${texts[0].data.slice(0, 40)}`);
  }
  return faults;
}"""
"""Names that are cut off at a width, or that make the page wider than that."""
PAGES = {
    "jobs": ("/#/jobs?q=WWW", "tbody .name"),
    "report": ("/#/jobs/{job}?tab=report", ".heat"),
    "settings": ("/#/jobs/{job}?tab=config&diff={other}", ".diffs"),
    "new job": ("/#/new?from={job}", ".job-summary .gist"),
    "comparison": ("/#/compare?jobs={job},{other}", ".versus"),
    "frontier": ("/#/frontier?dataset={dataset}&open={job}", ".point-card h2"),
    "student": ("/#/students/{job}", ".samples img"),
    "data set": ("/#/catalog?open={dataset}", ".classes img"),
    "failed data set": ("/#/catalog?open={failed}", ".notice li"),
    "model": ("/#/catalog?tab=models&open={model}", ".opened .fact-list"),
    "keys": ("/#/system?tab=keys", "th:has-text('aaa')"),
}
"""Addresses, and an element that appears when the page is complete."""


def digits_archive(*, broken: bool) -> bytes:
    """A zip with ten digits of each class, in folders and files with long names."""
    archive, digits = io.BytesIO(), load_digits()
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(100):
            image = io.BytesIO()
            pixels = (digits.images[number] * 15).astype("uint8")
            Image.fromarray(pixels).save(image, "PNG")
            name = f"{digits.target[number]}{'c' * (MAX_LENGTH - 1)}/{number:0{MAX_LENGTH}}.png"
            file.writestr(name, b"no image" if broken else image.getvalue())
    return archive.getvalue()


@pytest.fixture(scope="module")
def long_ids(api: httpx.Client, finished_job: Json) -> dict[str, str]:
    """Ids of a job, data sets, a model and a key with long names."""

    def create(path: str, **body: Any) -> Json:
        created: Json = api.post(path, json=body).raise_for_status().json()
        return created

    dataset, failed = (
        create(
            "/v1/datasets",
            name=letter * MAX_LENGTH,
            upload_id=upload(api, digits_archive(broken=broken), "digits.zip"),
        )["id"]
        for letter, broken in (("d", False), ("f", True))
    )
    wait_for_state(api, f"/v1/datasets/{dataset}", "ready")
    job = create(
        "/v1/jobs",
        name="W" * MAX_LENGTH,
        student={"architecture": "cifar/resnet8"},
        dataset=dataset,
        training={"epochs": 1},
        labels={"k" * 63: "v" * 63},
    )["id"]
    wait_for_state(api, f"/v1/jobs/{job}", "succeeded")
    model = create("/v1/models", name="m" * MAX_LENGTH, source=f"job:{job}")["id"]
    create("/v1/api-keys", name="a" * MAX_LENGTH, scopes=["jobs:read"])
    failed_path = f"/v1/datasets/{failed}"
    wait_until(lambda: api.get(failed_path).json()["state"] == "failed", 300, "the data set fails")
    ids = {"job": job, "dataset": dataset, "failed": failed, "model": model}
    return ids | {"other": finished_job["id"]}


@pytest.mark.parametrize("name", PAGES)
def test_long_names_break_at_every_width(
    open_page: OpenPage, long_ids: dict[str, str], name: str
) -> None:
    address, complete = PAGES[name]
    page = open_page(address.format(**long_ids)).page
    expect(page.locator(complete).first).to_be_visible()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        # Charts are redrawn some frames after the page has become narrower.
        with suppress(PlaywrightTimeoutError):
            page.wait_for_function(f"(width) => !({FIND_FAULTS})(width).length", arg=width)
        assert page.evaluate(FIND_FAULTS, width) == [], width
