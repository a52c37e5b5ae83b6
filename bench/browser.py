"""Shared by the dashboard's measurements: a running stack with jobs, and Chromium."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from stillhouse.client import Client
from stillhouse.local import Stack

Json = dict[str, Any]
TEACHER, STUDENT = "cifar/resnet8x4", "cifar/resnet8"


@contextlib.contextmanager
def running_stack() -> Iterator[tuple[Stack, Client]]:
    """Yield a stack in a temporary folder, and its client."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "data") as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        yield stack, client


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the system's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # The sandbox does not work as root, and containers run as root.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        yield browser
        browser.close()


def login_context(browser: Browser, stack: Stack, **options: Any) -> BrowserContext:
    """Return a new browser context that is logged in to the dashboard."""
    context = browser.new_context(base_url=stack.url, **options)
    response = context.request.post(
        "/session", data={"api_key": stack.api_key}, headers={"Origin": stack.url}
    )
    if not response.ok:
        raise SystemExit(f"the login was refused: {response.text()}")
    return context


def create_digits(client: Client) -> str:
    """Create the built-in data set, wait until it is ready, and return its id."""
    created = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
    return str(client.wait(created)["id"])


def post_job(client: Client, dataset: str, name: str, epochs: int, **fields: Any) -> Json:
    """Post a job with the default student; ``fields`` override its body."""
    body = {
        "name": name,
        "student": {"architecture": STUDENT},
        "dataset": dataset,
        "training": {"epochs": epochs, "batch_size": 64},
    }
    return client.post("/v1/jobs", body | fields)


def copy_job(stack: Stack, client: Client, job: Json, count: int) -> None:
    """Insert ``count`` copies of a finished job, like a project after years."""
    import psycopg

    url = stack.environment["STILLHOUSE_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        cursor = connection.execute("SELECT to_jsonb(j) FROM jobs j WHERE id = %s", [job["id"]])
        (row,) = cursor.fetchone() or ({},)
        columns = [name for name in row if name not in ("id", "name", "created_at")]
        names = ", ".join(columns)
        connection.execute(
            f"INSERT INTO jobs (id, name, created_at, {names}) "  # noqa: S608 - our own columns
            "SELECT 'job_' || lpad(n::text, 26, '0'), 'student ' || n, "
            f"created_at - n * interval '1 minute', {names} "
            "FROM jobs, generate_series(1, %s) n WHERE id = %s",
            [count, job["id"]],
        )
        connection.execute("ANALYZE jobs")
    total = client.get("/v1/usage")["jobs"]
    print(f"jobs in the project: {sum(total.values()):,}", json.dumps(total))
