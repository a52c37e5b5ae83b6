"""Time of claiming a job and of reading its queue position, by the number of waiting jobs."""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.local import Services

WAITING = (0, 100, 1_000, 10_000)
REPEATS = 30


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder) / "data") as services:
        os.environ.update(services.environment)
        measure()


def measure() -> None:
    """Add waiting jobs of one project and time a job of another, again and again."""
    from store import jobs
    from store.access import credentials
    from store.database import engine, transaction
    from store.jobs import queue_position
    from store.migrate import migrate
    from store.tables import Job

    migrate()
    with transaction() as session:
        flood, other = (credentials.create_project(session, name).id for name in ("flood", "other"))
    with transaction() as session:
        late = jobs.create(session, _job(other)).id
    print("| waiting jobs of another project | claim, ms | queue position, ms |")
    print("|---|---|---|")
    num_waiting = 0
    for count in WAITING:
        _add_waiting_jobs(flood, num_waiting, count, late)
        num_waiting = count

        def claim() -> None:
            with transaction() as session:
                job = jobs.claim(session, "train", "bench")
                assert job is not None
                session.rollback()

        def look_up_position() -> None:
            with transaction() as session:
                queue_position.QueueStatus(session, job_id=late).jobs_ahead(
                    session.get_one(Job, late)
                )

        print(f"| {count:,} | {_median_ms(claim):.1f} | {_median_ms(look_up_position):.1f} |")
    engine().dispose()


def _job(project: str) -> Any:
    from store.ids import new_id
    from store.tables import Job

    return Job(
        id=new_id("job"),
        project_id=project,
        kind="distill",
        queue="train",
        name="a job",
        labels={},
        priority=0,
        spec={},
        resolved={},
        model_ids=[],
        methods=[],
        summary={},
    )


def _add_waiting_jobs(project: str, first: int, last: int, job_id: str) -> None:
    """Insert copies of the job, numbered from ``first`` + 1 to ``last``, into the project."""
    from store.database import connect
    from store.tables import Job

    unique_columns = {"id", "project_id", "queued_at", "created_at"}
    names = ", ".join(
        column.key for column in Job.__table__.columns if column.key not in unique_columns
    )
    with connect() as connection:
        connection.autocommit = True
        connection.execute(
            f"INSERT INTO jobs (id, project_id, {names}) "  # noqa: S608 - our own columns
            f"SELECT 'job_flood' || n, %s, {names} "
            "FROM jobs, generate_series(%s::int, %s::int) n WHERE id = %s",
            [project, first + 1, last, job_id],
        )
        connection.execute("ANALYZE jobs")


def _median_ms(act: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
