"""`Services`: Postgres and Valkey on a data folder, without the programs that use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from stillhouse.local import disk_space
from stillhouse.local.data_dir import DataDir
from stillhouse.local.environment import child_environment
from stillhouse.local.errors import LocalStackError
from stillhouse.local.postgres.server import PostgresCluster
from stillhouse.local.program_specs import broker_url, valkey_spec
from stillhouse.local.supervise.lock import DataDirLock
from stillhouse.local.supervise.process_registry import ProcessRegistry, end_leftover_processes
from stillhouse.local.supervise.spawn import open_log
from stillhouse.local.supervise.supervisor import Supervisor
from stillhouse.local.supervise.watchdog import Watchdog

# Shorter than the workers' grace time: a hung engine is killed and its job queued again before the
# worker is killed.
ENGINE_GRACE_S = 9
MessageHandler = Callable[[str], None]


def ignore_message(line: str) -> None:
    """Do nothing with a message."""


class Services:
    """The servers on a data folder: `open` locks it, `start` runs them, `stop` ends everything.

    The context manager calls all three. `environment` has the settings of every other process.
    """

    def __init__(
        self,
        data_dir: Path,
        on_message: MessageHandler = ignore_message,
        on_failure: MessageHandler = ignore_message,
    ) -> None:
        self.data_dir = DataDir(data_dir)
        self.on_message = on_message
        self._lock: DataDirLock | None = None
        self._watchdog: Watchdog | None = None
        self._cluster: PostgresCluster | None = None
        self._base_environment = child_environment()
        self.environment: dict[str, str] = {}
        self._registry = ProcessRegistry(self.data_dir.process_registry)
        self.supervisor = Supervisor(
            self.data_dir.logs,
            self._registry,
            on_message,
            on_failure,
            is_disk_full=lambda: disk_space.is_full(self.data_dir.root),
        )

    def open(self) -> None:
        """Lock the folder, end what a killed owner left, upgrade an older layout.

        Raises LocalStackError.
        """
        self.data_dir.create()
        lock = DataDirLock(self.data_dir.lock)
        lock.acquire(self.supervisor.sleep, self.on_message)
        self._lock = lock
        if leftover := end_leftover_processes(self.data_dir.process_registry):
            self.on_message(f"ended {leftover} processes that a killed owner had left")
        first_start = not self.data_dir.postgres.exists()
        disk_space.check_shared_memory()
        disk_space.check_enough_to_start(self.data_dir.root, first_start=first_start)
        self.data_dir.prepare()
        open_log(self.data_dir.logs / "watchdog.log").close()
        self._watchdog = Watchdog(
            self.data_dir.logs / "watchdog.log", self._base_environment, lock.descriptor
        )
        self._watchdog.open()
        self._registry.watchdog = self._watchdog

    def start(self) -> None:
        """Start both servers and wait until they are ready. Raises LocalStackError."""
        supervisor, sockets = self.supervisor, self.data_dir.sockets()
        broker = supervisor.start(
            valkey_spec(self.data_dir, sockets / "valkey.sock", self._base_environment)
        )
        cluster = self._cluster = PostgresCluster(self.data_dir, sockets, self._base_environment)
        cluster.prepare(supervisor.run, self.on_message)
        self.on_message("starting Postgres and Valkey")
        database = supervisor.start(cluster.server_spec())
        supervisor.await_ready(database)
        supervisor.await_ready(broker)
        cluster.create_database("stillhouse")
        self.environment = self._base_environment | {
            "STILLHOUSE_DATABASE_URL": cluster.url(),
            "STILLHOUSE_BROKER_URL": broker_url(sockets / "valkey.sock"),
            "STILLHOUSE_OBJECT_STORE": self.data_dir.objects.as_uri(),
            "STILLHOUSE_WORK_DIR": str(self.data_dir.work),
            "STILLHOUSE_SECRET_KEY": self.data_dir.secret("secret-key"),
            "STILLHOUSE_STOP_GRACE_S": str(ENGINE_GRACE_S),
        }

    def create_database(self, name: str) -> str:
        """Create another empty database unless it exists; return its SQLAlchemy URL."""
        if self._cluster is None:
            raise LocalStackError("The services have not been started.")
        return self._cluster.create_database(name)

    def update_owner_info(self, **facts: object) -> None:
        """Add facts about this owner to the lock file, for a second process."""
        if self._lock:
            self._lock.update_owner_info(**facts)

    def stop(self) -> None:
        """End every process and unlock the folder. Safe to call twice, and after a failed start."""
        self.update_owner_info(stopping=True)
        self.supervisor.stop()
        try:
            if self._cluster:
                self._cluster.close()
            if self._lock:
                self.data_dir.remove_scratch()
        finally:
            self._cluster = None
            if self._watchdog:
                self._watchdog.close()
                self._watchdog = None
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

    def __exit__(self, *_: object) -> None:
        self.stop()
