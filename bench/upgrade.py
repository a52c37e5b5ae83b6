"""Time of each migration, by the number of finished jobs, from the snapshot in tests/upgrade."""

import argparse
import json
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from stillhouse.local import Services
from tests.upgrade.conftest import ARCHIVE, Snapshot, connect, load_rows, migrate

COPIED_TABLES = {"jobs": "id", "runs": "job_id", "events": "job_id"}
"""The column with the job's id, by table."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.upgrade", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=10, help="of each job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        snapshot = _extract_snapshot(Path(folder) / "snapshot")
        with Services(Path(folder) / "data") as services:
            os.environ.update(services.environment)
            database_url = services.environment["STILLHOUSE_DATABASE_URL"]
            measure(snapshot, database_url, options.jobs, options.events)


def measure(snapshot: Snapshot, database_url: str, num_jobs: int, num_events: int) -> None:
    """Load the snapshot, copy one of its finished jobs, and time every later migration."""
    from alembic.script import ScriptDirectory
    from sqlalchemy import NullPool, create_engine

    from store.migrate import alembic_config

    first = snapshot.metadata["revision"]
    migrate(database_url, first)
    load_rows(snapshot, database_url)
    size_bytes = _copy_job(database_url, num_jobs, num_events)
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        scripts = ScriptDirectory.from_config(alembic_config(connection))
    revisions = [script.revision for script in scripts.walk_revisions(first, "heads")][-2::-1]
    print(f"{num_jobs:,} jobs with {num_events} events each: {size_bytes / 2**20:,.0f} MiB")
    print("| migration | seconds |")
    print("|---|---|")
    for revision in revisions:
        start = time.perf_counter()
        migrate(database_url, revision)
        print(f"| {revision} | {time.perf_counter() - start:.1f} |", flush=True)


def _extract_snapshot(folder: Path) -> Snapshot:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Snapshot(folder, json.loads((folder / "snapshot.json").read_text()), {})


def _copy_job(database_url: str, num_jobs: int, num_events: int) -> int:
    """Insert copies of a succeeded job with its runs and first events; returns the tables' size."""
    with connect(database_url) as connection:
        query = "SELECT id FROM jobs WHERE state = 'succeeded' AND lane = 'train' LIMIT 1"
        job = connection.execute(query).fetchone()
        assert job is not None
        for table, id_column in COPIED_TABLES.items():
            condition = f"seq <= {num_events}" if table == "events" else "true"
            names = _other_columns(connection, table, id_column)
            copied = ", ".join("id || '_' || n" if name == "id" else name for name in names)
            connection.execute(
                f"INSERT INTO {table} ({id_column}, {', '.join(names)}) "  # noqa: S608 - our own
                f"SELECT 'job_copy' || n, {copied} FROM {table}, generate_series(1, %s) AS n "
                f"WHERE {id_column} = %s AND {condition}",
                (num_jobs, job[0]),
            )
        sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in COPIED_TABLES)
        row = connection.execute(f"SELECT {sizes}").fetchone()
        assert row is not None
        return int(row[0])


def _other_columns(connection: Any, table: str, id_column: str) -> list[str]:
    query = (
        "SELECT quote_ident(column_name) FROM information_schema.columns "
        "WHERE table_name = %s AND column_name <> %s AND is_generated = 'NEVER'"
    )
    return [name for (name,) in connection.execute(query, (table, id_column)).fetchall()]


if __name__ == "__main__":
    main()
