"""Migrations: they make what the code says, and refuse a database that is newer."""

import subprocess
import sys

import pytest
from sqlalchemy import text

from stillhouse.local import Services


def test_the_migrated_database_is_what_the_tables_say(environment: dict[str, str]) -> None:
    from store.database import engine
    from store.migrate import drift

    with engine().connect() as connection:
        assert drift(connection) == []


@pytest.fixture
def other(services: Services, environment: dict[str, str]) -> dict[str, str]:
    """Settings with an empty database of its own."""
    url = services.create_database("other")
    return environment | {"STILLHOUSE_DATABASE_URL": url}


def migrate(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "store.migrate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_an_empty_database_is_migrated_and_a_newer_one_refused(other: dict[str, str]) -> None:
    from sqlalchemy import create_engine

    assert migrate(other).returncode == 0
    assert migrate(other).returncode == 0  # again changes nothing
    newer = create_engine(other["STILLHOUSE_DATABASE_URL"])
    with newer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer.dispose()
    refused = migrate(other)
    assert refused.returncode == 3
    assert "newer version" in refused.stderr
    assert "Traceback" not in refused.stderr
