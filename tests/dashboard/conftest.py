"""A real browser on the real product. Every page that a test opens is watched for what no page may
do: errors in the console, breaches of the content security policy, requests to anyone else."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from stillhouse.local import Stack

Json = dict[str, Any]
expect.set_options(timeout=20_000)  # where trainings run beside it, a page waits for its turn
# What the page could not tell otherwise, and a switch that makes the tab a hidden one.
WATCH = """
window.__breaches = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.__breaches.push(`${event.violatedDirective} ${event.blockedURI}`);
});
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.__hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); };
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        # Its own sandbox does not work as root, which is what containers run as.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Watched:
    """A page, what it asked for, and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.complaints == []
        assert self.page.evaluate("window.__breaches") == []
        assert self.page.evaluate("window.__x") is None


Opened = Callable[..., Watched]


@pytest.fixture
def opened(browser: Browser, stack: Stack) -> Iterator[Opened]:
    """Opens an address in a browser of its own, logged in with a key unless told otherwise."""
    contexts = []
    pages: list[Watched] = []

    def open_page(address: str, *, key: str | None = "", **options: Any) -> Watched:
        context = browser.new_context(base_url=stack.url, **options)
        contexts.append(context)
        if key is not None:
            data = {"api_key": key or stack.api_key}
            context.request.post("/session", data=data, headers={"Origin": stack.url})
        watched = Watched(context.new_page())
        context.add_init_script(WATCH)
        _watch(watched, stack.url)
        pages.append(watched)
        watched.page.goto(address)
        return watched

    yield open_page
    for watched in pages:
        watched.check()
    for context in contexts:
        context.close()


def _watch(watched: Watched, url: str) -> None:
    def asked(address: str) -> None:
        watched.requests.append(address)
        if not address.startswith((url, "data:", "blob:")):
            watched.complaints.append(f"asked {address}")

    def said(kind: str, text: str) -> None:
        # The browser itself notes a refusal that the page deals with: 401, 404, 409, 412, 422.
        if kind in ("error", "warning") and "status of 4" not in text:
            watched.complaints.append(f"{kind}: {text}")

    watched.page.on("request", lambda request: asked(request.url))
    watched.page.on("console", lambda message: said(message.type, message.text))
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def dataset(api: httpx.Client) -> str:
    body = {"name": "digits", "source": "builtin:digits"}
    found: Json = api.post("/v1/datasets", json=body).raise_for_status().json()
    return wait(api, f"/v1/datasets/{found['id']}", "ready")["id"]


@pytest.fixture(scope="session")
def post_job(api: httpx.Client, dataset: str) -> Callable[..., str]:
    def post(name: str, epochs: int = 2) -> str:
        student = {"architecture": "cifar/resnet8"}
        body = {"name": name, "student": student, "dataset": dataset}
        answer = api.post("/v1/jobs", json=body | {"training": {"epochs": epochs}})
        return str(answer.raise_for_status().json()["id"])

    return post


@pytest.fixture(scope="session")
def finished(api: httpx.Client, post_job: Callable[..., str]) -> Json:
    """A job that has succeeded, whose name is an attempt at an attack."""
    job_id = post_job('"><img src=x onerror=__x=1><script>__x=1</script>{{7*7}}', 1)
    return wait(api, f"/v1/jobs/{job_id}", "succeeded")


@pytest.fixture(scope="session")
def teacher(api: httpx.Client, finished: Json) -> Json:
    """The finished job's student, as a model."""
    body = {"name": "the teacher", "source": f"job:{finished['id']}"}
    made: Json = api.post("/v1/models", json=body).raise_for_status().json()
    return made


@pytest.fixture(scope="session")
def taught(api: httpx.Client, dataset: str, teacher: Json) -> Json:
    """A student that has learned next to nothing, so that it differs from its teacher.

    Its name would be a formula in a spreadsheet.
    """
    body = {
        "name": "=hardly taught",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 2, "batch_size": 256, "optimizer": {"type": "sgd", "lr": 1e-6}},
    }
    made = api.post("/v1/jobs", json=body).raise_for_status().json()
    return wait(api, f"/v1/jobs/{made['id']}", "succeeded")


def wait(api: httpx.Client, path: str, state: str, seconds: float = 120) -> Json:
    end = time.monotonic() + seconds
    while True:
        found: Json = api.get(path).raise_for_status().json()
        if found["state"] == state:
            return found
        assert found["state"] != "failed", found["error"]
        assert time.monotonic() < end, found
        time.sleep(0.3)


@pytest.fixture(scope="session")
def axe() -> str:
    return (Path(__file__).parent / "axe.min.js").read_text()
