"""Fixtures for tests in a real browser on the whole product.

Every page that a test opens is monitored: errors in the console, violations of the content security
policy and requests to other hosts fail the test.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from stillhouse.local import Stack
from tests.helpers import wait_until

Json = dict[str, Any]
TIMEOUT_S = 60  # pages are slow while jobs train on the same machine
expect.set_options(timeout=1000 * TIMEOUT_S)
QUIET_FRAMES = 30
ENDLESS_EPOCHS = 10_000
TERMINAL_STATES = {"succeeded", "failed", "cancelled"}
READ_CLIPBOARD = "navigator.clipboard.readText()"
INIT_SCRIPT = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.__hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); };
"""
"""Records violations of the policy; ``__hide`` makes the tab hidden or visible."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Without it the tests fail in CI and are skipped elsewhere."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root, and containers run as root.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class MonitoredPage:
    """A page with its requests and errors."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pending: set[Request] = field(default_factory=set)
    """Requests without a response so far; an open event stream is one of them."""

    def monitor(self, url: str) -> None:
        """Record what the page does from now on; ``url`` is the only host that it may use."""

        def on_request(request: Request) -> None:
            self.requests.append(request.url)
            self.pending.add(request)
            if not request.url.startswith((url, "data:")):
                self.errors.append(f"request to {request.url}")

        def on_console(kind: str, text: str) -> None:
            # The browser logs responses that the page handles: 401, 404, 409, 412, 422.
            if kind in ("error", "warning") and "status of 4" not in text:
                self.errors.append(f"{kind}: {text}")

        self.page.on("request", on_request)
        self.page.on("requestfinished", lambda request: self.pending.discard(request))
        self.page.on("requestfailed", lambda request: self.pending.discard(request))
        self.page.on("console", lambda message: on_console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def wait_until(self, condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
        """Wait for a condition on what was recorded."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; requests: {self.requests}"
            self.page.evaluate("new Promise(requestAnimationFrame)")  # receives events

    def wait_until_quiet(self, num_pending: int = 0) -> None:
        """Wait until ``num_pending`` requests are open and no other request follows them."""
        frames, num_requests = 0, -1

        def is_quiet() -> bool:
            nonlocal frames, num_requests
            unchanged = len(self.requests) == num_requests and len(self.pending) == num_pending
            frames = frames + 1 if unchanged else 0
            num_requests = len(self.requests)
            return frames > QUIET_FRAMES

        self.wait_until(is_quiet)

    def assert_clean(self) -> None:
        """Fail on errors, on violations of the policy, and if markup of a job's name was run."""
        assert self.errors == []
        assert self.page.evaluate("window.__violations") == []
        assert self.page.evaluate("window.__x") is None


OpenPage = Callable[..., MonitoredPage]


@pytest.fixture
def open_page(browser: Browser, stack: Stack) -> Iterator[OpenPage]:
    """Open an address in a browser context of its own.

    ``key``: the API key of the login, the stack's own by default; None: not logged in.
    ``clock``: the page's timers can be moved by ``page.clock``.
    """
    contexts = []
    pages: list[MonitoredPage] = []

    def open_address(
        address: str, *, key: str | None = "", clock: bool = False, **options: Any
    ) -> MonitoredPage:
        context = browser.new_context(base_url=stack.url, **options)
        context.set_default_timeout(1000 * TIMEOUT_S)
        contexts.append(context)
        if key is not None:
            data = {"api_key": key or stack.api_key}
            login = context.request.post("/session", data=data, headers={"Origin": stack.url})
            assert login.ok, login.text()
        context.add_init_script(INIT_SCRIPT)
        monitored = MonitoredPage(context.new_page())
        monitored.monitor(stack.url)
        pages.append(monitored)
        if clock:
            monitored.page.clock.install()
        monitored.page.goto(address)
        return monitored

    yield open_address
    for monitored in pages:
        monitored.assert_clean()
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the stack's API."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def dataset(api: httpx.Client) -> str:
    """The id of the built-in digits."""
    body = {"name": "digits", "source": "builtin:digits"}
    created: Json = api.post("/v1/datasets", json=body).raise_for_status().json()
    return wait_for_state(api, f"/v1/datasets/{created['id']}", "ready")["id"]


@pytest.fixture(scope="session")
def post_job(api: httpx.Client, dataset: str) -> Callable[..., str]:
    """Post a supervised job with a name and a number of epochs; returns its id."""

    def post(name: str, epochs: int = 2) -> str:
        student = {"architecture": "cifar/resnet8"}
        body = {"name": name, "student": student, "dataset": dataset}
        response = api.post("/v1/jobs", json=body | {"training": {"epochs": epochs}})
        return str(response.raise_for_status().json()["id"])

    return post


@pytest.fixture(scope="session")
def finished_job(api: httpx.Client, post_job: Callable[..., str]) -> Json:
    """A job that has succeeded. Its name would run as a script if a page parsed it as markup."""
    job_id = post_job('"><img src=x onerror=__x=1><script>__x=1</script>{{7*7}}', 1)
    return wait_for_state(api, f"/v1/jobs/{job_id}", "succeeded")


@pytest.fixture(scope="session")
def teacher(api: httpx.Client, finished_job: Json) -> Json:
    """The finished job's student, as a model."""
    body = {"name": "the teacher", "source": f"job:{finished_job['id']}"}
    model: Json = api.post("/v1/models", json=body).raise_for_status().json()
    return model


@pytest.fixture(scope="session")
def distilled_job(api: httpx.Client, dataset: str, teacher: Json) -> Json:
    """A job with a teacher whose student has learned almost nothing, so that the two differ.

    A spreadsheet would run its name as a formula.
    """
    body = {
        "name": "=hardly taught",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "teachers": [{"model": teacher["id"]}],
        "training": {"epochs": 2, "batch_size": 256, "optimizer": {"type": "sgd", "lr": 1e-6}},
    }
    created = api.post("/v1/jobs", json=body).raise_for_status().json()
    return wait_for_state(api, f"/v1/jobs/{created['id']}", "succeeded")


def cancel_job(api: httpx.Client, job_id: str) -> None:
    """Cancel a job, unless it has ended, and wait until it has ended."""
    api.post(f"/v1/jobs/{job_id}/cancel")
    job = f"/v1/jobs/{job_id}"
    wait_until(
        lambda: api.get(job).raise_for_status().json()["state"] in TERMINAL_STATES, 300, job_id
    )


@contextmanager
def endless_job(api: httpx.Client, post_job: Callable[..., str], name: str) -> Iterator[str]:
    """Post a job that does not end on its own; it is cancelled at the end of the block."""
    job_id = post_job(name, ENDLESS_EPOCHS)
    try:
        yield job_id
    finally:
        cancel_job(api, job_id)


@contextmanager
def occupied_workers(api: httpx.Client, post_job: Callable[..., str], name: str) -> Iterator[None]:
    """Occupy all training workers with endless jobs, so that other jobs stay in the queue."""
    num_workers = api.get("/readyz").json()["checks"]["train_workers"]
    jobs = [post_job(name, ENDLESS_EPOCHS) for _ in range(num_workers)]
    try:
        for job_id in jobs:
            wait_for_state(api, f"/v1/jobs/{job_id}", "running")
        yield
    finally:
        for job_id in jobs:
            cancel_job(api, job_id)


def clipboard_text(page: Page, start: str) -> str:
    """Wait until the clipboard's text begins with ``start``, and return the text.

    A button shows “Copied” for a moment only, which a slow machine may miss.
    """
    page.wait_for_function(
        f"start => {READ_CLIPBOARD}.then((text) => text.startsWith(start))", arg=start
    )
    text: str = page.evaluate(READ_CLIPBOARD)
    return text


def wait_for_state(api: httpx.Client, path: str, state: str, seconds: float = 300) -> Json:
    """Poll a resource until it has the state; fails if it fails."""
    end = time.monotonic() + seconds
    while True:
        resource: Json = api.get(path).raise_for_status().json()
        if resource["state"] == state:
            return resource
        assert resource["state"] != "failed", resource["error"]
        assert time.monotonic() < end, resource
        time.sleep(0.3)


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, an accessibility checker that runs in the page."""
    return (Path(__file__).parent / "axe.min.js").read_text()
