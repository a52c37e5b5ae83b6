"""`Supervisor`: start processes, start them again when they exit, and stop them in order."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stillhouse.local.disk_space import FULL_DISK_POLL_S
from stillhouse.local.errors import ProcessFailedError, StartCancelledError
from stillhouse.local.supervise.proc import process_identity
from stillhouse.local.supervise.process_registry import ProcessRegistry
from stillhouse.local.supervise.process_spec import ProcessSpec
from stillhouse.local.supervise.spawn import last_lines, open_gate, open_log, spawn
from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down

READY_POLL_S = 0.05
READY_TIMEOUT_S = 120.0
MAX_EXITS = 10
EXIT_WINDOW_S = 60.0
FIRST_DELAY_S = 0.1
# A process that needs four seconds to fail still reaches `MAX_EXITS` within the window.
MAX_DELAY_S = 2.0


class RestartPolicy:
    """Delays before the restarts of one process, from its exits within the last minute.

    Args:
        max_delay_s: the longest delay, in seconds. The first is 0.1 s and each next one is doubled.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, max_delay_s: float = MAX_DELAY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_delay_s = max_delay_s
        self._clock = clock
        self._exits: deque[float] = deque()

    def next_delay_s(self) -> float | None:
        """Record an exit; return the seconds before the next start, None after too many exits."""
        now = self._clock()
        self._exits.append(now)
        while now - self._exits[0] > EXIT_WINDOW_S:
            self._exits.popleft()
        if len(self._exits) >= MAX_EXITS:
            return None
        delay_s: float = FIRST_DELAY_S * 2 ** (len(self._exits) - 1)
        return min(delay_s, self._max_delay_s)


class SupervisedProcess:
    """A process that is kept running; `pid` is 0 between an exit and the next start."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.pid = 0
        self.starts = 0


class Supervisor:
    """Keeps processes running until `stop`. Its owner handles signals.

    Args:
        logs: the folder for one log file per process.
        registry: where every running process is registered.
        on_message: called with a line about each restart.
        on_failure: called with a message when a process has exited too often.
        restart_policy: makes the policy of one process.
        is_disk_full: whether processes cannot run for lack of disk space. Their exits do not count
            then, and they start again when there is space.
    """

    def __init__(
        self,
        logs: Path,
        registry: ProcessRegistry,
        on_message: Callable[[str], None] = lambda line: None,
        on_failure: Callable[[str], None] = lambda message: None,
        restart_policy: Callable[[], RestartPolicy] = RestartPolicy,
        is_disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._restart_policy = restart_policy
        self._is_disk_full = is_disk_full
        self._logs = logs
        self._registry = registry
        self._on_message = on_message
        self._on_failure = on_failure
        self._spawn_mutex = threading.Lock()
        self._stopping = threading.Event()
        self._force = threading.Event()
        self._threads: list[threading.Thread] = []
        self.processes: dict[str, SupervisedProcess] = {}
        self.failure: str | None = None

    def start(self, spec: ProcessSpec) -> SupervisedProcess:
        """Start a process and keep it running; `await_ready` waits until it is ready."""
        running = self.processes[spec.name] = SupervisedProcess(spec)
        thread = threading.Thread(
            target=self._supervise, args=(running,), name=f"supervise-{spec.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return running

    def run(self, spec: ProcessSpec, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """Run a process once, to its end. Its standard error also goes to its log.

        Raises:
            StartCancelledError: a stop was requested.
            ProcessFailedError: the process took longer than `timeout_s` seconds.
        """
        with self._spawn(spec, subprocess.PIPE, subprocess.PIPE) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                message = f"{spec.name} did not end within {timeout_s:g} s."
                raise ProcessFailedError(message) from None
            finally:
                self._clean_up_after(process.pid)
        with open_log(self._log_path(spec)) as log:
            log.write(err)
        if self._stopping.is_set():
            raise StartCancelledError("A stop was requested.")
        return subprocess.CompletedProcess(
            spec.argv,
            process.returncode,
            out.decode(errors="replace"),
            err.decode("utf-8", "replace"),
        )

    def await_ready(self, running: SupervisedProcess, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the process is ready.

        Raises:
            ProcessFailedError: it was not ready within `timeout_s` seconds, or exited too often.
            StartCancelledError: a stop was requested.
        """
        spec = running.spec
        deadline = time.monotonic() + timeout_s
        while not (running.pid and (spec.is_ready is None or spec.is_ready())):
            if self.failure:
                raise ProcessFailedError(self.failure)
            if time.monotonic() > deadline:
                tail = last_lines(self._log_path(spec))
                raise ProcessFailedError(
                    f"{spec.name} was not ready within {timeout_s:.0f} s.{tail}"
                )
            self.sleep(READY_POLL_S)

    def sleep(self, wait_s: float) -> None:
        """Wait; raises StartCancelledError as soon as a stop is requested."""
        if self._stopping.wait(wait_s):
            raise StartCancelledError("A stop was requested.")

    def cancel(self) -> None:
        """Start nothing more; threads that wait in the supervisor get StartCancelledError."""
        with self._spawn_mutex:
            self._stopping.set()

    def force_stop(self) -> None:
        """Make `stop` kill at once instead of waiting for the grace times."""
        self._force.set()

    def stop(self) -> None:
        """End everything: apps, then the broker, then the database. Safe to call twice."""
        self.cancel()
        shut_down(self._registry.targets(), self._force.is_set)
        for thread in self._threads:
            thread.join()

    def _supervise(self, running: SupervisedProcess) -> None:
        restarts = self._restart_policy()
        spec = running.spec
        while True:
            try:
                exit_text = self._run_until_exit(running)
            except StartCancelledError:
                return
            if self._stopping.is_set():
                return
            if self._is_disk_full():
                self._on_message(f"{spec.name} {exit_text}: the disk is full; waiting for space")
                self._wait_for_disk_space()
                restarts = self._restart_policy()
                continue
            delay_s = restarts.next_delay_s()
            if delay_s is None:
                self._report_failure(
                    f"{spec.name} died {MAX_EXITS} times in {EXIT_WINDOW_S:.0f} s (the last time "
                    f"it {exit_text}); giving up. The end of "
                    f"{self._log_path(spec)}:{last_lines(self._log_path(spec))}"
                )
                return
            self._on_message(f"{spec.name} {exit_text}; starting it again")
            if self._stopping.wait(delay_s):
                return

    def _wait_for_disk_space(self) -> None:
        while not self._stopping.wait(FULL_DISK_POLL_S) and self._is_disk_full():
            pass

    def _run_until_exit(self, running: SupervisedProcess) -> str:
        """Start the process and wait for its end; return what happened, for messages."""
        try:
            process = self._start_logged(running)
        except OSError as error:
            return f"could not be started: {error}"
        code = process.wait()
        running.pid = 0
        self._clean_up_after(process.pid)
        return f"ended with exit status {code}"

    def _start_logged(self, running: SupervisedProcess) -> subprocess.Popen[bytes]:
        spec = running.spec
        if spec.before_start:
            spec.before_start()
        with open_log(self._log_path(spec)) as log:
            process = self._spawn(spec, log, log)
        running.starts += 1
        running.pid = process.pid
        return process

    def _spawn(
        self, spec: ProcessSpec, out: IO[bytes] | int, err: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        # Under the mutex, so that a stop either sees this process or prevents its start.
        with self._spawn_mutex:
            if self._stopping.is_set():
                raise StartCancelledError("A stop was requested.")
            process = spawn(spec, out, err)
            identity = process_identity(process.pid) or "ended"
            target = ShutdownTarget(
                process.pid, identity, spec.stage, spec.stop_signal, spec.grace_s
            )
            self._registry.add(target)
            open_gate(process)
        return process

    def _clean_up_after(self, pid: int) -> None:
        """End what an ended process left in its group, and remove it from the registry."""
        self._shut_down(pid)
        self._registry.remove(pid)

    def _shut_down(self, pid: int) -> None:
        shut_down([target for target in self._registry.targets() if target.pid == pid])

    def _report_failure(self, message: str) -> None:
        self.failure = message
        self._on_failure(message)

    def _log_path(self, spec: ProcessSpec) -> Path:
        return self._logs / f"{spec.name}.log"
