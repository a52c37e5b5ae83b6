"""`Stack`: everything that `stillhouse up` runs, for tests, the demo and notebooks."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Self

from stillhouse.local.disk_space import DiskSpaceWatch
from stillhouse.local.errors import LocalStackError, ProcessFailedError
from stillhouse.local.ports import free_port, local_url, url
from stillhouse.local.program_specs import one_shot, program_specs
from stillhouse.local.services import MessageHandler, Services, ignore_message
from stillhouse.local.supervise.supervisor import SupervisedProcess

EXIT_NEWER_DATABASE = 3  # store.migrate's exit status

INTERRUPT_DELAY_S = 2.0
"""Seconds between the end of an interrupted child process and its error."""


class Stack:
    """The whole product on one data folder, as child processes of this one.

    Port 0 takes a free port. The context manager starts and stops the stack. `start` may run in one
    thread while another calls `cancel`, `force_stop` or `stop`, so Ctrl-C works at any moment.
    """

    def __init__(
        self,
        data_dir: Path | str,
        host: str = "127.0.0.1",
        port: int = 0,
        workers: int = 1,
        *,
        on_message: MessageHandler = ignore_message,
        on_failure: MessageHandler = ignore_message,
    ) -> None:
        self.services = Services(Path(data_dir), on_message, on_failure)
        self.host = host
        self.port = port
        self._workers = workers
        self._on_message = on_message
        self._start_mutex = threading.Lock()
        self.dashboard_url: str | None = None
        self._disk_watch: DiskSpaceWatch | None = None

    @property
    def url(self) -> str:
        """The API's address, with the requested host."""
        return url(self.host, self.port)

    @property
    def local_url(self) -> str:
        """The API's address from this machine, even if the API listens on all addresses."""
        return local_url(self.host, self.port)

    @property
    def api_key(self) -> str:
        """The first admin key."""
        return self.services.data_dir.api_key.read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process, for starting another one by hand."""
        return dict(self.services.environment)

    def process(self, name: str) -> SupervisedProcess:
        """A process of the stack: postgres, valkey, api, maintenance, train or prepare."""
        return self.services.supervisor.processes[name]

    def start(self, *, login: bool = False) -> None:
        """Start everything and wait until the API is ready. Raises LocalStackError.

        Args:
            login: also set `dashboard_url` to an address that logs in.
        """
        with self._start_mutex:
            self._start(login)

    def login_link(self) -> str | None:
        """Return a dashboard address that logs the admin in once; None if it could not be made."""
        spec = one_shot("login-link", self.environment, self.services.data_dir, self.local_url)
        done = self.services.supervisor.run(spec)
        return done.stdout.strip() or None if done.returncode == 0 else None

    def cancel(self) -> None:
        """Start nothing more; a running `start` raises StartCancelledError."""
        self.services.supervisor.cancel()

    def force_stop(self) -> None:
        """Make `stop` kill at once instead of waiting for the grace times."""
        self.services.supervisor.force_stop()

    def stop(self) -> None:
        """End every process within 20 seconds, and unlock the folder."""
        self.cancel()
        if self._disk_watch:
            self._disk_watch.stop()
        self.services.update_owner_info(stopping=True)
        self.services.supervisor.stop()
        # A cancelled `start` must have returned before the folder is unlocked.
        with self._start_mutex:
            self.services.stop()

    def _start(self, login: bool) -> None:
        services = self.services
        services.open()
        self.port = free_port(self.host, self.port)
        services.update_owner_info(url=self.url)
        services.start()
        self._on_message("preparing the tables")
        self._run_one_shot("migrate")
        self._on_message(
            "starting the API, maintenance and the workers "
            f"({self._workers} {'job' if self._workers == 1 else 'jobs'} at a time)"
        )
        services.environment["STILLHOUSE_TRAINING_SLOTS"] = str(self._workers)
        specs = program_specs(
            services.environment, services.data_dir, (self.host, self.port), self._workers
        )
        running = {spec.name: services.supervisor.start(spec) for spec in specs}
        # Both run while the API loads; clients get its address later.
        self._run_one_shot("bootstrap")
        self.dashboard_url = self.login_link() if login else None
        services.supervisor.await_ready(running["api"])
        self._disk_watch = DiskSpaceWatch(self.local_url, self._on_message)
        self._disk_watch.start()

    def _run_one_shot(self, name: str) -> None:
        services = self.services
        done = services.supervisor.run(one_shot(name, services.environment, services.data_dir))
        if done.returncode == EXIT_NEWER_DATABASE:
            message = "The database is from a newer Stillhouse: use the newer version."
            raise LocalStackError(done.stderr.strip() or message)
        if done.returncode == -signal.SIGINT:
            # Ctrl-C in a terminal reaches every process: this one handles its own signal first.
            time.sleep(INTERRUPT_DELAY_S)
        if done.returncode != 0:
            raise ProcessFailedError(
                f"{name} failed with exit status {done.returncode}: {done.stderr.strip()[-2000:]}"
            )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
