"""A finished student: its numbers, its files, and what it says of an image beside its teacher."""

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import Opened, Watched, wait

pytestmark = pytest.mark.browser
Json = dict[str, Any]
READY_MS = 90_000  # the teacher is converted for its first question

# What a reader's hand does, whom no browser lets drop a file by a program.
DROP = """
([name, bytes]) => {
  const transfer = new DataTransfer();
  const data = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
  transfer.items.add(new File([data], name, { type: "image/png" }));
  return transfer;
}
"""


@pytest.fixture(scope="module")
def taught(api: httpx.Client, dataset: str, teacher: Json) -> Json:
    body = {
        "name": "a student to take home",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 1, "batch_size": 64},
        "exports": ["onnx"],
    }
    made = api.post("/v1/jobs", json=body).raise_for_status().json()
    return wait(api, f"/v1/jobs/{made['id']}", "succeeded")


@pytest.fixture(scope="module")
def images(api: httpx.Client, dataset: str) -> list[bytes]:
    """Two test images of each digit, as PNG files."""
    found = api.get(f"/v1/datasets/{dataset}/images", params={"split": "test"})
    return [base64.b64decode(each["png"]) for each in found.raise_for_status().json()["data"]]


@pytest.fixture
def student(opened: Opened, taught: Json) -> Watched:
    watched = opened(f"/#/students/{taught['id']}")
    # From now on a chooser is told to us: asked for when it opens, that would come too late.
    watched.page.on("filechooser", lambda _: None)
    expect(watched.page.get_by_role("heading", name="Model card")).to_be_visible()
    return watched


def answered(card: Locator, who: str) -> Locator:
    """The bars of a column, the likeliest first."""
    column = card.get_by_role("region", name=who, exact=True)
    expect(column.get_by_role("listitem")).to_have_count(5, timeout=READY_MS)
    return column.get_by_role("listitem")


def drop(page: Page, name: str, image: bytes) -> Locator:
    transfer = page.evaluate_handle(DROP, [name, base64.b64encode(image).decode()])
    zone = page.get_by_role("button", name="Choose images")
    zone.dispatch_event("drop", {"dataTransfer": transfer})
    return page.get_by_role("article", name=name)


def test_a_dropped_image_is_answered_by_both(
    student: Watched, api: httpx.Client, taught: Json, teacher: Json, images: list[bytes]
) -> None:
    page = student.page
    expect(page.get_by_role("button", name="Keep as a model")).to_be_visible()
    card = drop(page, "seven.png", images[14])
    rows = {who: answered(card, who) for who in ("Student", "Teacher")}
    # The first question has kept the student.
    expect(page.get_by_role("link", name="Kept as a model")).to_be_visible()
    kept = api.get("/v1/models", params={"source": f"job:{taught['id']}"}).json()["data"]
    assert len(kept) == 1
    best = {}
    for who, model in (("Student", kept[0]), ("Teacher", teacher)):
        sent = {"images": ("seven.png", images[14])}
        said = api.post(f"/v1/models/{model['id']}/predict", files=sent).raise_for_status()
        (found,) = said.json()["data"]
        first = found["top"][0]
        best[who] = first["class"]
        expect(rows[who].first).to_contain_text(first["class"])
        expect(rows[who].first).to_contain_text(f"{100 * first['probability']:.1f} %")
    same = best["Student"] == best["Teacher"]
    expect(card).to_contain_text("They agree" if same else "They disagree")
    # The browser notes by itself that a model was not ready at first, which the page waits for.
    student.complaints[:] = [each for each in student.complaints if "status of 503" not in each]


def test_files_and_test_images_are_asked_by_keyboard(student: Watched, images: list[bytes]) -> None:
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
    answered(page.get_by_role("article", name="one.png"), "Student")
    torn = page.get_by_role("article", name="torn.png")
    for who in ("Student", "Teacher"):
        expect(torn.get_by_role("region", name=who)).to_contain_text(
            "No answer: cannot be decoded", timeout=READY_MS
        )
    page.get_by_role("button", name="class 3").focus()
    page.keyboard.press("Enter")
    card = page.get_by_role("article", name="test image")
    expect(card).to_contain_text("Labeled 3")
    answered(card, "Student")
    page.get_by_role("button", name="Clear the answers").click()
    expect(page.get_by_role("article")).to_have_count(0)
    student.complaints[:] = [each for each in student.complaints if "status of 503" not in each]


def test_the_card_tells_what_the_report_tells(
    student: Watched, api: httpx.Client, taught: Json
) -> None:
    page = student.page
    report = api.get(f"/v1/jobs/{taught['id']}/report").raise_for_status().json()
    table = page.get_by_role("table", name="Student, teacher and undistilled student")
    for name, field in (("Top-1", "top1"), ("Agreement", "agreement")):
        row = table.get_by_role("row", name=name)
        for who in ("student", "teacher", "baseline"):
            expect(row).to_contain_text(f"{report[who][field]:.2f} %")
    files = {
        each["name"]: each
        for each in api.get(f"/v1/jobs/{taught['id']}/artifacts").raise_for_status().json()["data"]
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
    for digest in (files["student.safetensors"]["sha256"], *_teachers(api, taught)):
        expect(card.locator(f"code[title='{digest}']")).to_be_visible()


def _teachers(api: httpx.Client, job: Json) -> list[str]:
    models = (api.get(f"/v1/models/{each['model']}").json() for each in job["teachers"])
    return [model["sha256"] for model in models]


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_the_lines_to_run_it_do_run(
    opened: Opened,
    api: httpx.Client,
    taught: Json,
    images: list[bytes],
    form: str,
    tmp_path: Path,
) -> None:
    page = opened(f"/#/students/{taught['id']}?form={form}").page
    lines = page.get_by_role("tabpanel").locator("pre")
    expect(lines).to_contain_text("argmax")
    (tmp_path / "image.png").write_bytes(images[14])
    for file in api.get(f"/v1/jobs/{taught['id']}/artifacts").json()["data"]:
        content = api.get(file["links"]["content"], follow_redirects=True)
        (tmp_path / file["name"]).write_bytes(content.raise_for_status().content)
    command = [sys.executable, "-c", lines.inner_text()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    body = {"name": "to compare", "source": f"job:{taught['id']}"}
    model = api.post("/v1/models", json=body).raise_for_status().json()
    sent = {"images": ("image.png", images[14])}
    said = api.post(f"/v1/models/{model['id']}/predict", files=sent).raise_for_status().json()
    assert done.stdout.strip() == said["data"][0]["top"][0]["class"]


def test_a_job_without_a_student_says_so(
    opened: Opened, api: httpx.Client, post_job: Callable[..., str]
) -> None:
    job = post_job("long before its end", 500)
    page = opened(f"/#/students/{job}").page
    expect(page.locator("main")).to_contain_text("The student comes when the job has succeeded.")
    api.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    wait(api, f"/v1/jobs/{job}", "cancelled")
    ended = expect(page.locator("main"))
    ended.to_contain_text("This job has ended without a student.", timeout=15_000)
    expect(page.get_by_role("link", name="Open the job")).to_be_visible()
