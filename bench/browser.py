"""What the dashboard's measurements share: the product with jobs in it, and a browser on it."""

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
def product() -> Iterator[tuple[Stack, Client]]:
    """A stack on a folder that is gone afterwards, and a client of it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "data") as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        yield stack, client


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # Its own sandbox does not work as root, which is what containers run as.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        yield browser
        browser.close()


def logged_in(browser: Browser, stack: Stack, **options: Any) -> BrowserContext:
    """A browser context of its own that the dashboard knows."""
    context = browser.new_context(base_url=stack.url, **options)
    answer = context.request.post(
        "/session", data={"api_key": stack.api_key}, headers={"Origin": stack.url}
    )
    if not answer.ok:
        raise SystemExit(f"the login was refused: {answer.text()}")
    return context


def digits(client: Client) -> str:
    """The built-in data set, ready."""
    created = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
    return str(client.wait(created)["id"])


def job(client: Client, dataset: str, name: str, epochs: int, **more: Any) -> Json:
    """Post a job of the usual student."""
    body = {
        "name": name,
        "student": {"architecture": STUDENT},
        "dataset": dataset,
        "training": {"epochs": epochs, "batch_size": 64},
    }
    return client.post("/v1/jobs", body | more)


def many(stack: Stack, client: Client, like: Json, count: int) -> None:
    """Copies of a finished job's row, as a project has them after years."""
    import psycopg

    url = stack.environment["STILLHOUSE_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        cursor = connection.execute("SELECT to_jsonb(j) FROM jobs j WHERE id = %s", [like["id"]])
        (row,) = cursor.fetchone() or ({},)
        columns = [name for name in row if name not in ("id", "name", "created_at")]
        names = ", ".join(columns)
        connection.execute(
            f"INSERT INTO jobs (id, name, created_at, {names}) "  # noqa: S608 - our own columns
            "SELECT 'job_' || lpad(n::text, 26, '0'), 'student ' || n, "
            f"created_at - n * interval '1 minute', {names} "
            "FROM jobs, generate_series(1, %s) n WHERE id = %s",
            [count, like["id"]],
        )
        connection.execute("ANALYZE jobs")
    total = client.get("/v1/usage")["jobs"]
    print(f"jobs in the project: {sum(total.values()):,}", json.dumps(total))
