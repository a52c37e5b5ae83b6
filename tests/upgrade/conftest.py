"""A data folder that an earlier version wrote, loaded at its own revision."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from alembic import command
from psycopg import sql
from sqlalchemy import NullPool, create_engine

from stillhouse.local import Services, Stack
from store.migrate import alembic_config
from tests.conftest import client_for

Json = dict[str, Any]
ARCHIVE = Path(__file__).parent / "snapshot" / "snapshot.tar.gz"
SETTINGS = {
    "STILLHOUSE_ENGINE_THREADS": "1",
    "STILLHOUSE_HEARTBEAT_S": "0.5",
    "STILLHOUSE_POLL_S": "0.1",
    "STILLHOUSE_MAINTENANCE_INTERVAL_S": "1",
    # The stored responses of the snapshot are older than a day.
    "STILLHOUSE_IDEMPOTENCY_S": "1e9",
}


@dataclass(frozen=True)
class Snapshot:
    """What the earlier version stored, and the responses of its API."""

    folder: Path
    metadata: Json
    expected: Json

    def rows(self, table: str) -> list[Json]:
        lines = (self.folder / "tables" / f"{table}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class UpgradedStack:
    """The whole product, running on the migrated snapshot."""

    snapshot: Snapshot
    client: httpx.Client
    database_url: str

    def job(self, name: str) -> Json:
        job_id = self.snapshot.metadata["jobs"][name]
        job: Json = self.client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return job

    def query(self, text: str) -> list[Any]:
        with connect(self.database_url) as connection:
            return connection.execute(text).fetchall()


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("snapshot")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    metadata = json.loads((folder / "snapshot.json").read_text())
    return Snapshot(folder, metadata, json.loads((folder / "expected.json").read_text()))


@pytest.fixture(scope="session")
def upgraded_stack(
    snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[UpgradedStack]:
    data_dir = tmp_path_factory.mktemp("upgraded") / "data"
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    try:
        prepare_data_dir(snapshot, data_dir)
        with (
            Stack(data_dir) as stack,
            client_for(stack.url, snapshot.metadata["api_key"]) as client,
        ):
            database_url = stack.environment["STILLHOUSE_DATABASE_URL"]
            yield UpgradedStack(snapshot, client, database_url)
    finally:
        os.environ.clear()
        os.environ.update(before)


def prepare_data_dir(snapshot: Snapshot, data_dir: Path) -> None:
    """Write a data folder at the snapshot's revision; `stillhouse up` migrates it."""
    data_dir.mkdir(mode=0o700, parents=True)
    for name, field in (("secret-key", "secret_key"), ("api-key", "api_key")):
        path = data_dir / name
        path.touch(mode=0o600)
        path.write_text(f"{snapshot.metadata[field]}\n")
    with Services(data_dir) as services:
        database_url = services.environment["STILLHOUSE_DATABASE_URL"]
        migrate(database_url, snapshot.metadata["revision"])
        load_rows(snapshot, database_url)
        objects = services.data_dir.objects
    # Without their times: garbage collection looks for old objects that have no row.
    shutil.copytree(
        snapshot.folder / "objects", objects, copy_function=shutil.copyfile, dirs_exist_ok=True
    )


def migrate(database_url: str, revision: str) -> None:
    """Upgrade or downgrade a database to a revision."""
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        current = connection.dialect.has_table(connection, "alembic_version") and (
            connection.exec_driver_sql("SELECT max(version_num) FROM alembic_version").scalar()
        )
        change = command.downgrade if current and current > revision else command.upgrade
        change(alembic_config(connection), revision)


def connect(database_url: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(database_url.replace("postgresql+psycopg://", "postgresql://", 1))


def load_rows(snapshot: Snapshot, database_url: str) -> None:
    with connect(database_url) as connection:
        for table in snapshot.metadata["tables"]:
            columns = sql.SQL(", ").join(map(sql.Identifier, table["columns"]))
            copy_query = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table["name"]), columns
            )
            with connection.cursor().copy(copy_query) as copy:
                for row in snapshot.rows(table["name"]):
                    copy.write_row([row[name] for name in table["columns"]])
        for name, value in snapshot.metadata["sequences"].items():
            connection.execute("SELECT setval(%s::regclass, %s)", (name, value))


def dump_rows(database_url: str, tables: list[Json]) -> dict[str, list[Any]]:
    """Every row of the tables, as text, in a fixed order."""
    with connect(database_url) as connection:
        return {
            table["name"]: connection.execute(
                sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(
                    sql.Identifier(table["name"])
                )
            ).fetchall()
            for table in tables
        }
