"""The new API resource of CONTRIBUTING.md migrates the database and answers over HTTP."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.script import ScriptDirectory

from tests.conftest import client_for
from tests.helpers import assert_problem, issue_codes
from tests.house.scratch import Example, apply_example, copy_checkout, read_example
from tests.house.scratch_server import run_python, scratch_database, serve_api

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
    work_dir = tmp_path_factory.mktemp("work")
    with scratch_database(environment, scratch, work_dir) as variables:
        yield variables


@pytest.fixture(scope="module")
def notes_client(scratch: Path, scratch_variables: dict[str, str]) -> Iterator[httpx.Client]:
    with serve_api(scratch, scratch_variables) as client:
        yield client


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
