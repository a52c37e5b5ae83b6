"""Postgres, Valkey and the folders, without the programs that use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from stillhouse.local.data_dir import DataFolder
from stillhouse.local.environment import kept_environment
from stillhouse.local.errors import LocalError
from stillhouse.local.postgres.server import Cluster
from stillhouse.local.supervise.lock import FolderLock
from stillhouse.local.supervise.process_registry import Roster, end_leftovers
from stillhouse.local.supervise.spawn import open_log
from stillhouse.local.supervise.supervisor import Supervisor
from stillhouse.local.supervise.watchdog_client import Guard
from stillhouse.local.valkey import broker_url, valkey_part

ENGINE_GRACE_S = 9
Say = Callable[[str], None]


def silent(line: str) -> None:
    """Say nothing."""


class Services:
    """The servers on a data folder: `open` owns it, `start` runs them, `stop` ends everything.

    As a context manager it does all of that. `environment` is what every other part needs to know.
    """

    def __init__(self, data_dir: Path, say: Say = silent, on_failure: Say = silent) -> None:
        self.folder = DataFolder(data_dir)
        self.say = say
        self._lock: FolderLock | None = None
        self._guard: Guard | None = None
        self._cluster: Cluster | None = None
        self._base = kept_environment()
        self.environment: dict[str, str] = {}
        self._roster = Roster(self.folder.roster)
        self.supervisor = Supervisor(self.folder.logs, self._roster, say, on_failure)

    def open(self) -> None:
        """Own the folder: lock it, end what a killed owner left, upgrade it. Raises LocalError."""
        self.folder.create()
        lock = FolderLock(self.folder.lock)
        lock.acquire(self.supervisor.pause, self.say)
        self._lock = lock
        if left := end_leftovers(self.folder.roster):
            self.say(f"ended {left} processes that a killed owner had left")
        self.folder.settle()
        open_log(self.folder.logs / "watchdog.log").close()
        self._guard = Guard(self.folder.logs / "watchdog.log", self._base, lock.descriptor)
        self._guard.open()
        self._roster.guard = self._guard

    def start(self) -> None:
        """Start both servers and wait for them. Raises LocalError, CancelledError among them."""
        supervisor, sockets = self.supervisor, self.folder.sockets()
        broker = supervisor.start(valkey_part(self.folder, sockets / "valkey.sock", self._base))
        cluster = self._cluster = Cluster(self.folder, sockets, self._base)
        cluster.prepare(supervisor.run, self.say)
        self.say("starting Postgres and Valkey")
        database = supervisor.start(cluster.part())
        supervisor.await_ready(database)
        supervisor.await_ready(broker)
        cluster.create_database("stillhouse")
        self.environment = self._base | {
            "STILLHOUSE_DATABASE_URL": cluster.url(),
            "STILLHOUSE_BROKER_URL": broker_url(sockets / "valkey.sock"),
            "STILLHOUSE_OBJECT_STORE": self.folder.objects.as_uri(),
            "STILLHOUSE_WORK_DIR": str(self.folder.work),
            "STILLHOUSE_SECRET_KEY": self.folder.secret("secret-key"),
            # Less than the workers' own grace here: a hung engine is killed and its job queued
            # again before the worker itself is killed.
            "STILLHOUSE_STOP_GRACE_S": str(ENGINE_GRACE_S),
        }

    def create_database(self, name: str) -> str:
        """Create another empty database beside the main one; returns its SQLAlchemy address."""
        if self._cluster is None:
            raise LocalError("The services have not been started.")
        return self._cluster.create_database(name)

    def note(self, **facts: object) -> None:
        """Tell whoever comes second more about this owner."""
        if self._lock:
            self._lock.note(**facts)

    def stop(self) -> None:
        """End every part and give the folder up. Safe to call twice, and after a failed start."""
        self.note(stopping=True)
        self.supervisor.stop()
        try:
            if self._cluster:
                self._cluster.close()
            if self._lock:
                self.folder.remove_scratch()
        finally:
            self._cluster = None
            if self._guard:
                self._guard.close()
                self._guard = None
            if self._lock:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> Self:
        try:
            self.open()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
