"""The watchdog: a process that ends all others when the supervisor was killed.

`Watchdog` is the supervisor's side, `run_watchdog` the process. A pipe connects them, with lines
`+ TARGET` and `- PID`. Only the supervisor holds the writing end, so the pipe ends when it dies.
The watchdog also holds the lock of the data folder: a second Postgres cannot start before the
first has ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down

# The program comes from standard input, so the command line names neither a module nor a folder: a
# user who kills every process with "stillhouse" in its command line does not kill the watchdog.
PROGRAM = b"from stillhouse.local.supervise.watchdog import run_watchdog\nrun_watchdog()\n"


class Watchdog:
    """A watchdog process that has every running target, and is started again if it dies.

    Args:
        log: the file for its output.
        environment: its environment variables.
        lock_descriptor: the descriptor of the data folder's lock, inherited by the watchdog.
    """

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
        """The watchdog's process id; 0 before `open`."""
        return self._process.pid if self._process else 0

    def open(self) -> None:
        """Start the watchdog process. Call it before the first target is added."""
        with self._mutex:
            self._start()
        self._thread = threading.Thread(target=self._restart_on_exit, name="watchdog", daemon=True)
        self._thread.start()

    def add(self, target: ShutdownTarget) -> None:
        """End `target` if the supervisor dies."""
        with self._mutex:
            self._targets[target.pid] = target
            self._send(f"+ {target.to_line()}\n")

    def remove(self, pid: int) -> None:
        """Forget a process that has ended."""
        with self._mutex:
            self._targets.pop(pid, None)
            self._send(f"- {pid}\n")

    def close(self) -> None:
        """End the watchdog; it first ends the targets that are left."""
        with self._mutex:
            self._closing = True
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1
        if self._thread:
            # After a Ctrl-C inside `open` the thread may not have been started.
            with suppress(RuntimeError):
                self._thread.join()

    def _start(self) -> None:
        read_end, self._pipe = os.pipe()
        inherited = [read_end]
        if self._lock_descriptor is not None:
            inherited.append(self._lock_descriptor)
        try:
            with self._log.open("ab") as log:
                self._process = self._popen(read_end, inherited, log)
        finally:
            os.close(read_end)
        if self._process.stdin:
            with suppress(BrokenPipeError), self._process.stdin as program:
                program.write(PROGRAM)
        for target in self._targets.values():
            self._send(f"+ {target.to_line()}\n")

    def _popen(
        self, read_end: int, inherited: list[int], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-", str(read_end)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=self._environment,
            # In a session of its own, because Ctrl-C in the terminal is for the supervisor.
            start_new_session=True,
            pass_fds=inherited,
            cwd="/",
        )

    def _send(self, line: str) -> None:
        # A dead watchdog is started again by `_restart_on_exit`, which sends every target.
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


def run_watchdog() -> None:
    """Read the pipe whose descriptor is the first argument; at its end, end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    targets: dict[int, ShutdownTarget] = {}
    with os.fdopen(int(sys.argv[1]), encoding="utf-8") as lines:
        for line in lines:
            verb, _, rest = line.strip().partition(" ")
            if verb == "+":
                target = ShutdownTarget.parse(rest)
                targets[target.pid] = target
            elif verb == "-":
                targets.pop(int(rest), None)
    shut_down(targets.values())
