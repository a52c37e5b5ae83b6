"""The page of a finished student: measurements, files, code, predictions beside the teacher."""

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import (
    MonitoredPage,
    OpenPage,
    cancel_job,
    endless_job,
    wait_for_state,
)
from tests.helpers import wait_until

pytestmark = pytest.mark.browser
Json = dict[str, Any]
PREPARED_S = 300  # a model is converted before its first prediction
DROP = """
([name, bytes]) => {
  const transfer = new DataTransfer();
  const data = Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
  transfer.items.add(new File([data], name, { type: "image/png" }));
  return transfer;
}
"""


@pytest.fixture(scope="module")
def distilled_job(api: httpx.Client, dataset: str, teacher: Json) -> Json:
    body = {
        "name": "a student to download",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 1, "batch_size": 64},
        "exports": ["onnx"],
    }
    created = api.post("/v1/jobs", json=body).raise_for_status().json()
    return wait_for_state(api, f"/v1/jobs/{created['id']}", "succeeded")


@pytest.fixture(scope="module")
def images(api: httpx.Client, dataset: str) -> list[bytes]:
    """Two test images of each digit, as PNG files."""
    response = api.get(f"/v1/datasets/{dataset}/images", params={"split": "test"})
    return [base64.b64decode(image["png"]) for image in response.raise_for_status().json()["data"]]


@pytest.fixture
def student(open_page: OpenPage, distilled_job: Json) -> MonitoredPage:
    monitored = open_page(f"/#/students/{distilled_job['id']}")
    # The listener must exist before the first file chooser opens.
    monitored.page.on("filechooser", lambda _: None)
    expect(monitored.page.get_by_role("heading", name="Model card")).to_be_visible()
    return monitored


def prediction_bars(card: Locator, who: str) -> Locator:
    """The bars of a column, the most probable class first."""
    column = card.get_by_role("region", name=who, exact=True)
    expect(column.get_by_role("listitem")).to_have_count(5, timeout=1000 * PREPARED_S)
    return column.get_by_role("listitem")


def predict(api: httpx.Client, model: Json, image: bytes) -> Json:
    """The most probable class by the API, which may have to convert the model first."""
    path, files = f"/v1/models/{model['id']}/predict", {"images": ("image.png", image)}
    wait_until(
        lambda: api.post(path, files=files).status_code != httpx.codes.SERVICE_UNAVAILABLE,
        PREPARED_S,
        "the model is prepared",
    )
    (prediction,) = api.post(path, files=files).raise_for_status().json()["data"]
    first: Json = prediction["top"][0]
    return first


def drop(page: Page, name: str, image: bytes) -> Locator:
    transfer = page.evaluate_handle(DROP, [name, base64.b64encode(image).decode()])
    zone = page.get_by_role("button", name="Choose images")
    zone.dispatch_event("drop", {"dataTransfer": transfer})
    return page.get_by_role("article", name=name)


def test_dropped_image_is_predicted_by_both(
    student: MonitoredPage,
    api: httpx.Client,
    distilled_job: Json,
    teacher: Json,
    images: list[bytes],
) -> None:
    page = student.page
    expect(page.get_by_role("button", name="Save as a model")).to_be_visible()
    card = drop(page, "seven.png", images[14])
    rows = {who: prediction_bars(card, who) for who in ("Student", "Teacher")}
    # The first prediction has saved the student.
    expect(page.get_by_role("link", name="Saved as a model")).to_be_visible()
    models = api.get("/v1/models", params={"source": f"job:{distilled_job['id']}"}).json()["data"]
    assert len(models) == 1
    best = {}
    for who, model in (("Student", models[0]), ("Teacher", teacher)):
        first = predict(api, model, images[14])
        best[who] = first["class"]
        expect(rows[who].first).to_contain_text(first["class"])
        expect(rows[who].first).to_contain_text(f"{100 * first['probability']:.1f} %")
    same = best["Student"] == best["Teacher"]
    expect(card).to_contain_text("They agree" if same else "They disagree")
    # The browser logs the response 503 of a model in preparation, which the page handles.
    student.errors[:] = [error for error in student.errors if "status of 503" not in error]


def test_files_and_test_images_are_predicted_by_keyboard(
    student: MonitoredPage, images: list[bytes]
) -> None:
    page = student.page
    page.get_by_role("button", name="Choose images").focus()
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(
        [
            {"name": "one.png", "mimeType": "image/png", "buffer": images[2]},
            {"name": "torn.png", "mimeType": "image/png", "buffer": images[3][:50]},
        ]
    )
    prediction_bars(page.get_by_role("article", name="one.png"), "Student")
    torn = page.get_by_role("article", name="torn.png")
    for who in ("Student", "Teacher"):
        expect(torn.get_by_role("region", name=who)).to_contain_text(
            "No prediction: cannot be decoded", timeout=1000 * PREPARED_S
        )
    page.get_by_role("button", name="class 3").focus()
    page.keyboard.press("Enter")
    card = page.get_by_role("article", name="test image")
    expect(card).to_contain_text("Labeled 3")
    prediction_bars(card, "Student")
    page.get_by_role("button", name="Clear the predictions").click()
    expect(page.get_by_role("article")).to_have_count(0)
    student.errors[:] = [error for error in student.errors if "status of 503" not in error]


def test_measurements_and_files_match_the_api(
    student: MonitoredPage, api: httpx.Client, distilled_job: Json
) -> None:
    page = student.page
    report = api.get(f"/v1/jobs/{distilled_job['id']}/report").raise_for_status().json()
    table = page.get_by_role("table", name="Student, teacher and undistilled student")
    for name, field in (("Top-1", "top1"), ("Agreement", "agreement")):
        row = table.get_by_role("row", name=name)
        for who in ("student", "teacher", "baseline"):
            expect(row).to_contain_text(f"{report[who][field]:.2f} %")
    files = {
        file["name"]: file
        for file in api.get(f"/v1/jobs/{distilled_job['id']}/artifacts")
        .raise_for_status()
        .json()["data"]
    }
    listed = page.get_by_role("table", name="Files")
    for name, file in files.items():
        link = listed.get_by_role("link", name=name, exact=True)
        expect(link).to_have_attribute("href", file["links"]["content"])
        expect(link).to_have_attribute("download", name)
        expect(listed.locator(f"code[title='{file['sha256']}']")).to_be_visible()
    assert {"student.safetensors", "student.onnx", "model_card.md"} <= set(files)
    card = page.get_by_role("region", name="Model card")
    expect(card).to_contain_text("8 \u00d7 8 pixels, gray")
    expect(card).to_contain_text("kd (temperature 4")
    for digest in (files["student.safetensors"]["sha256"], *teacher_digests(api, distilled_job)):
        expect(card.locator(f"code[title='{digest}']")).to_be_visible()


def teacher_digests(api: httpx.Client, job: Json) -> list[str]:
    models = (api.get(f"/v1/models/{teacher['model']}").json() for teacher in job["teachers"])
    return [model["sha256"] for model in models]


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_shown_code_predicts_like_the_api(
    open_page: OpenPage,
    api: httpx.Client,
    distilled_job: Json,
    images: list[bytes],
    form: str,
    tmp_path: Path,
) -> None:
    page = open_page(f"/#/students/{distilled_job['id']}?form={form}").page
    lines = page.get_by_role("tabpanel").locator("pre")
    expect(lines).to_contain_text("argmax")
    (tmp_path / "image.png").write_bytes(images[14])
    for file in api.get(f"/v1/jobs/{distilled_job['id']}/artifacts").json()["data"]:
        content = api.get(file["links"]["content"], follow_redirects=True)
        (tmp_path / file["name"]).write_bytes(content.raise_for_status().content)
    command = [sys.executable, "-c", lines.inner_text()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    body = {"name": "to compare", "source": f"job:{distilled_job['id']}"}
    model = api.post("/v1/models", json=body).raise_for_status().json()
    assert done.stdout.strip() == predict(api, model, images[14])["class"]


def test_job_without_a_student_shows_the_reason(
    open_page: OpenPage, api: httpx.Client, post_job: Callable[..., str]
) -> None:
    with endless_job(api, post_job, "long before its end") as job:
        page = open_page(f"/#/students/{job}").page
        main = page.locator("main")
        expect(main).to_contain_text("The student is written when the job succeeds.")
        cancel_job(api, job)
    expect(main).to_contain_text("This job has ended without a student.")
    expect(page.get_by_role("link", name="Open the job")).to_be_visible()
