"""The supervisor's side of its watchdog: keep one alive and tell it what to end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from stillhouse.local.supervise.stop_order import ShutdownTarget

# Read from standard input: the command line then names no module and no folder, so whoever kills
# every process with "stillhouse" in it leaves the one that cleans up behind them.
PROGRAM = b"from stillhouse.local.supervise.watchdog import main\nmain()\n"


class WatchdogClient:
    """A watchdog process, started again if it dies, that knows every running target."""

    def __init__(
        self, log: Path, environment: dict[str, str], lock_descriptor: int | None = None
    ) -> None:
        self._log = log
        self._environment = environment
        self._lock_descriptor = lock_descriptor
        self._mutex = threading.Lock()
        self._targets: dict[int, ShutdownTarget] = {}
        self._pipe = -1
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The watchdog's process id; 0 when none was started."""
        return self._process.pid if self._process else 0

    def open(self) -> None:
        """Start the watchdog; everything started later is covered by it."""
        with self._mutex:
            self._start()
        self._thread = threading.Thread(target=self._restart_on_exit, name="watchdog", daemon=True)
        self._thread.start()

    def add(self, target: ShutdownTarget) -> None:
        """Have `target` ended should the supervisor die."""
        with self._mutex:
            self._targets[target.pid] = target
            self._send(f"+ {target.to_line()}\n")

    def remove(self, pid: int) -> None:
        """Forget a process that has ended."""
        with self._mutex:
            self._targets.pop(pid, None)
            self._send(f"- {pid}\n")

    def close(self) -> None:
        """Let the watchdog go, after it has ended whatever it still knows."""
        with self._mutex:
            self._closing = True
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1
        if self._thread:
            # A Ctrl-C while it is being started leaves one that cannot be waited for.
            with suppress(RuntimeError):
                self._thread.join()

    def _start(self) -> None:
        reading, self._pipe = os.pipe()
        passed = [reading] + ([] if self._lock_descriptor is None else [self._lock_descriptor])
        try:
            with self._log.open("ab") as log:
                self._process = self._popen(reading, passed, log)
        finally:
            os.close(reading)
        if self._process.stdin:
            with suppress(BrokenPipeError), self._process.stdin as program:
                program.write(PROGRAM)
        for target in self._targets.values():
            self._send(f"+ {target.to_line()}\n")

    def _popen(self, reading: int, passed: list[int], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-", str(reading)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=self._environment,
            # Its own session: Ctrl-C in the terminal is the supervisor's business.
            start_new_session=True,
            pass_fds=passed,
            cwd="/",
        )

    def _send(self, line: str) -> None:
        # A watchdog that has just died is started again by `_tend` and told everything then.
        if self._pipe >= 0:
            with suppress(BrokenPipeError):
                os.write(self._pipe, line.encode())

    def _restart_on_exit(self) -> None:
        while True:
            process = self._process
            if process is None:
                return
            process.wait()
            with self._mutex:
                if self._closing:
                    return
                os.close(self._pipe)
                self._start()
