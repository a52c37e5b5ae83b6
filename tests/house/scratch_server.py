"""A database, an API process and a worker of a scratch copy of the checkout."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from stillhouse.local.ports import free_port
from tests.conftest import client_for
from tests.helpers import wait_until
from tests.house.scratch import scratch_environment


@contextmanager
def scratch_database(
    environment: dict[str, str], scratch: Path, work_dir: Path
) -> Iterator[dict[str, str]]:
    """Variables for the processes of the copy, with an empty database."""
    url = make_url(environment["STILLHOUSE_DATABASE_URL"])
    name = f"scratch_{secrets.token_hex(4)}"
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database_url = url.set(database=name).render_as_string(hide_password=False)
        variables = environment | scratch_environment(scratch)
        yield variables | {
            "STILLHOUSE_DATABASE_URL": database_url,
            "STILLHOUSE_WORK_DIR": str(work_dir),
        }
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run_python(scratch: Path, variables: dict[str, str], *args: str) -> str:
    """Run Python in the copy. Returns its standard output."""
    command = [sys.executable, *args]
    return subprocess.run(
        command, cwd=scratch, env=variables, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def run_worker(scratch: Path, variables: dict[str, str], queue: str) -> None:
    """Run all jobs of a queue by a worker of the copy."""
    code = f"from worker.executor import WorkerLoop; WorkerLoop().run_jobs({queue!r})"
    run_python(scratch, variables | {"STILLHOUSE_PREWARM_ENGINE": "false"}, "-c", code)


@contextmanager
def serve_api(scratch: Path, variables: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of an API process of the copy, with the key of its first project."""
    run_python(scratch, variables, "-m", "store.migrate")
    key_file = scratch / "api-key"
    bootstrap = ("-m", "store.access.bootstrap", "--api-key-file", str(key_file))
    run_python(scratch, variables, *bootstrap)
    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "api", "--port", str(port)]
    process = subprocess.Popen(command, cwd=scratch, env=variables)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_healthy(url), 60, "the API responds")
        with client_for(url, key_file.read_text().strip()) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
