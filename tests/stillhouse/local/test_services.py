"""Postgres and Valkey under the supervisor."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from redis import Redis

from stillhouse.local import Services
from stillhouse.local.errors import DataDirError, ProcessFailedError
from stillhouse.local.postgres.rootless import FORCED_RUNNER_VARIABLE
from stillhouse.local.supervise.proc import process_identity, process_tree
from stillhouse.local.supervise.supervisor import SupervisedProcess
from tests.helpers import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root has other ways to run Postgres")

OWNER_PROGRAM = """
import sys, time
from pathlib import Path
from stillhouse.local import Services
with Services(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(600)
"""


def connect(services: Services) -> psycopg.Connection:
    url = services.environment["STILLHOUSE_DATABASE_URL"]
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def valkey(services: Services) -> Redis:
    path = unquote(urlsplit(services.environment["STILLHOUSE_BROKER_URL"]).path)
    return Redis(unix_socket_path=path, decode_responses=True)


def insert_number(services: Services, number: int) -> None:
    with connect(services) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number int)")
        connection.execute("INSERT INTO numbers VALUES (%s)", (number,))


def select_numbers(services: Services) -> list[int]:
    with connect(services) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY 1")]


def is_restarted(process: SupervisedProcess, first_pid: int) -> bool:
    return process.pid not in (0, first_pid)


def start_owner(folder: Path) -> subprocess.Popen[str]:
    """Start another process with services on the folder."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    assert owner.stdout.readline() == "up\n"
    return owner


def kill_everything(owner: subprocess.Popen[str]) -> None:
    """Kill the supervisor, its watchdog and the servers; the supervisor is stopped first."""
    os.kill(owner.pid, signal.SIGSTOP)
    members = process_tree([owner.pid])
    assert len(members) > 5
    for pid in members:
        with suppress(ProcessLookupError):  # a backend ends with its postmaster
            os.kill(pid, signal.SIGKILL)
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


def test_data_survives_when_every_process_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces & more %41"
    with Services(folder) as services:
        insert_number(services, 1)
        with valkey(services) as client:
            client.rpush("queue", "message")
    owner = start_owner(folder)
    kill_everything(owner)
    with Services(folder) as services:
        assert select_numbers(services) == [1]
        with valkey(services) as client:
            assert client.lrange("queue", 0, -1) == ["message"]


def test_killed_servers_restart_with_their_data(tmp_path: Path) -> None:
    with Services(tmp_path) as services:
        insert_number(services, 1)
        running = services.supervisor.processes
        with valkey(services) as client:
            client.set("key", "value")
        for name in ("postgres", "valkey"):
            first = running[name].pid
            os.kill(first, signal.SIGKILL)
            wait_until(partial(is_restarted, running[name], first), 60, f"{name} is started again")
            services.supervisor.await_ready(running[name], 60)
        assert select_numbers(services) == [1]
        with valkey(services) as client:
            assert client.get("key") == "value"


def test_servers_are_private_and_durable(tmp_path: Path) -> None:
    others = set(process_tree([os.getpid()]))  # processes of the session's fixtures
    with Services(tmp_path) as services:
        with connect(services) as connection:
            for name, value in (
                ("listen_addresses", ""),
                ("fsync", "on"),
                ("TimeZone", "UTC"),
                ("server_encoding", "UTF8"),
            ):
                row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                assert row == (value,), name
        with valkey(services) as client:
            assert client.config_get("appendonly", "port") == {"appendonly": "yes", "port": "0"}
        url = services.create_database("another")
        assert services.create_database("another") == url
        wrong = url.replace("postgresql+psycopg", "postgresql").replace(
            "stillhouse:", "stillhouse:x"
        )
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        members = set(process_tree([os.getpid()])) - others
    assert members
    assert [pid for pid in members if process_identity(pid)] == []
    with Services(tmp_path) as services:
        assert services.environment["STILLHOUSE_OBJECT_STORE"] == (tmp_path / "objects").as_uri()


def test_stale_pid_file_with_a_running_process_id_is_ignored(tmp_path: Path) -> None:
    with Services(tmp_path):
        pass
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    lines = [foreign.pid, tmp_path / "postgres", 1, 5432, tmp_path / "run", "", "  1 1", "ready"]
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(map(str, lines)))
    with Services(tmp_path) as services:
        assert services.supervisor.processes["postgres"].starts == 1
    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()


def test_database_of_another_major_version_is_refused(tmp_path: Path) -> None:
    with Services(tmp_path):
        pass
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with (
        pytest.raises(DataDirError, match="has a database of Postgres 12, but Postgres 18"),
        Services(tmp_path),
    ):
        pass


@needs_root
def test_both_runners_of_root_work_on_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORCED_RUNNER_VARIABLE, "user_namespace")
    with Services(tmp_path) as services:
        insert_number(services, 1)
    monkeypatch.setenv(FORCED_RUNNER_VARIABLE, "other_user")
    owner = start_owner(tmp_path)
    assert (tmp_path / "postgres-away").exists()
    away = Path((tmp_path / "postgres-away").read_text().strip())
    kill_everything(owner)
    with Services(tmp_path) as services:
        pid = services.supervisor.processes["postgres"].pid
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        insert_number(services, 2)
    assert (tmp_path / "postgres").stat().st_uid == 0
    assert not (tmp_path / "postgres-away").exists()
    assert not away.parent.exists()
    monkeypatch.delenv(FORCED_RUNNER_VARIABLE)
    with Services(tmp_path) as services:
        assert select_numbers(services) == [1, 2]


@needs_root
def test_machine_without_a_runner_is_reported_in_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORCED_RUNNER_VARIABLE, "none")
    with pytest.raises(ProcessFailedError, match="refuses root"), Services(tmp_path):
        pass
