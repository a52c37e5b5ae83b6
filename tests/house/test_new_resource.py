"""The new API resource of CONTRIBUTING.md migrates the database and answers over HTTP."""

import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import make_url

from stillhouse.local.ports import free_port
from tests.conftest import client_for
from tests.helpers import assert_problem, issue_codes, wait_until
from tests.house.scratch import (
    Example,
    apply_example,
    copy_checkout,
    read_example,
    scratch_environment,
)

Json = dict[str, Any]
MAX_LINES = 79
DIFFERENCES = """
from store.database import engine
from store.migrate import schema_differences
with engine().connect() as connection:
    print(schema_differences(connection))
"""


@pytest.fixture(scope="module")
def example(root: Path) -> Example:
    """The example, with the newest revision as the one that its migration follows."""
    example = read_example(root, "A new API resource")
    head = ScriptDirectory(str(root / "migrations")).get_current_head()
    for path, code in example.files.items():
        if path.startswith("migrations/"):
            example.files[path] = re.sub(r'(= "9999", )"\d+"', rf'\g<1>"{head}"', code)
    return example


@pytest.fixture(scope="module")
def scratch(root: Path, example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    copy_checkout(root, folder)
    apply_example(example, folder)
    return folder


@pytest.fixture(scope="module")
def scratch_variables(
    environment: dict[str, str], scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Variables for the processes of the copy, with an empty database."""
    url = make_url(environment["STILLHOUSE_DATABASE_URL"])
    name = f"scratch_{secrets.token_hex(4)}"
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield (
            environment
            | scratch_environment(scratch)
            | {
                "STILLHOUSE_DATABASE_URL": url.set(database=name).render_as_string(
                    hide_password=False
                ),
                "STILLHOUSE_WORK_DIR": str(tmp_path_factory.mktemp("work")),
            }
        )
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run_python(scratch: Path, variables: dict[str, str], *args: str) -> str:
    command = [sys.executable, *args]
    return subprocess.run(
        command, cwd=scratch, env=variables, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def notes_client(scratch: Path, scratch_variables: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of an API process of the copy, with the key of its first project."""
    run_python(scratch, scratch_variables, "-m", "store.migrate")
    key_file = scratch / "api-key"
    run_python(
        scratch, scratch_variables, "-m", "store.access.bootstrap", "--api-key-file", str(key_file)
    )
    port = free_port("127.0.0.1", 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--port", str(port)], cwd=scratch, env=scratch_variables
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_healthy(url), 60, "the API responds")
        with client_for(url, key_file.read_text().strip()) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_example_is_short(example: Example) -> None:
    assert example.num_lines <= MAX_LINES


def test_example_needs_one_line_outside_its_folder_and_table(example: Example) -> None:
    assert {path for path, _, _ in example.lines} == {"api/app.py", "store/tables/__init__.py"}
    assert all(code.strip().count("\n") == 0 for _, _, code in example.lines)


def test_migration_matches_the_table(
    notes_client: httpx.Client, scratch: Path, scratch_variables: dict[str, str]
) -> None:
    assert run_python(scratch, scratch_variables, "-c", DIFFERENCES).strip() == "[]"


def test_notes_are_created_once_and_listed_in_pages(notes_client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "first"}
    created = notes_client.post("/v1/notes", json={"text": "first"}, headers=headers)
    assert created.status_code == 201
    replay = notes_client.post("/v1/notes", json={"text": "first"}, headers=headers)
    assert replay.headers["idempotent-replayed"] == "true"
    second = notes_client.post("/v1/notes", json={"text": "second"}).raise_for_status().json()
    page = notes_client.get("/v1/notes", params={"limit": 1}).json()
    assert page["data"] == [second]
    query = {"limit": 1, "cursor": page["next_cursor"]}
    page = notes_client.get("/v1/notes", params=query).json()
    assert page == {"data": [created.json()], "next_cursor": None}


def test_notes_follow_the_rules_of_every_resource(notes_client: httpx.Client) -> None:
    unknown_field = notes_client.post("/v1/notes", json={"text": "x", "color": "red"})
    assert issue_codes(unknown_field) == {"/color": "extra_forbidden"}
    assert_problem(httpx.get(f"{notes_client.base_url}/v1/notes"), 401, "unauthorized")
    project = notes_client.post("/v1/projects", json={"name": "another"}).json()
    with client_for(str(notes_client.base_url), project["api_key"]) as other_client:
        assert other_client.get("/v1/notes").json() == {"data": [], "next_cursor": None}
    operation: Json = notes_client.get("/openapi.json").json()["paths"]["/v1/notes"]["post"]
    assert operation["tags"] == ["notes"]
    assert {"201", "401", "422"} <= set(operation["responses"])
