"""The database is taken back to an older copy while the object store is not."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.workload import Client, History

pytestmark = pytest.mark.timeout(600)

LIVE, COPY, AFTER = "stillhouse", "copy", "taken_back"


@contextlib.contextmanager
def alone(arena: Arena) -> Iterator[Callable[[str], None]]:
    """Run statements while no other connection to the database exists or can be opened."""
    url = make_url(arena.services.environment["STILLHOUSE_DATABASE_URL"])
    address = url.set(drivername="postgresql", database="postgres")
    with psycopg.connect(
        address.render_as_string(hide_password=False), autocommit=True
    ) as connection:

        def run(statement: str) -> None:
            names = {name: sql.Identifier(name) for name in (LIVE, COPY, AFTER)}
            connection.execute(sql.SQL(statement).format(**names))

        run("ALTER DATABASE {stillhouse} WITH ALLOW_CONNECTIONS false")
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'stillhouse'")
        try:
            yield run
        finally:
            run("ALTER DATABASE {stillhouse} WITH ALLOW_CONNECTIONS true")


def test_jobs_of_an_older_copy_go_on(
    arena: Arena, client: Client, history: History, recipe: Any, holds: Callable[..., None]
) -> None:
    arena.arm("worker.uploaded", "sleep 10")  # it has not ended when the copy is made
    job = client.submit(recipe)
    url = f"/v1/jobs/{job}/checkpoints"
    arena.until(lambda: bool(client.insist("GET", url).json()["data"]), 120, "it has a checkpoint")
    with alone(arena) as run:
        run("CREATE DATABASE {copy} TEMPLATE {stillhouse}")
    # What comes after the copy is lost with it: a job that ends, and the first one's end.
    with arena.client() as http:
        late = Client(http, history, "late")
        posted = late.submit(recipe)
        ended = (job, posted)
        arena.until(
            lambda: {late.state(job_id) for job_id in ended} == {"succeeded"}, 240, "both end"
        )
    checker = Checker(arena)
    fences = {row["fence"] for row in checker.rows("SELECT fence FROM runs")}
    query = "SELECT object_key FROM artifacts WHERE job_id = %s"
    keys = [row["object_key"] for row in checker.rows(query, posted)]
    with alone(arena) as run:
        run("ALTER DATABASE {stillhouse} RENAME TO {taken_back}")
        run("ALTER DATABASE {copy} RENAME TO {stillhouse}")
    assert client.state(job) not in ("succeeded", "failed")
    holds(client)
    assert client.state(job) == "succeeded"
    last = checker.rows("SELECT fence FROM runs WHERE job_id = %s ORDER BY number DESC", job)
    assert last[0]["fence"] > max(fences)
    assert keys
    assert all(checker.is_stored(key) for key in keys)  # in doubt, nothing is deleted
