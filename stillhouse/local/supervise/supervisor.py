"""Starts parts, starts them again when they die, and ends them in order."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stillhouse.local.errors import ProcessFailedError, StartCancelledError
from stillhouse.local.supervise.proc import process_start_time
from stillhouse.local.supervise.process_registry import ProcessRegistry
from stillhouse.local.supervise.process_spec import ProcessSpec
from stillhouse.local.supervise.restart_policy import MOST_DEATHS, WINDOW_S, RestartPolicy
from stillhouse.local.supervise.spawn import last_lines, open_gate, open_log, spawn
from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down

READY_POLL_S = 0.05
READY_WITHIN_S = 120.0


class SupervisedProcess:
    """A part that is kept running; `pid` is 0 between a death and the next start."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.pid = 0
        self.starts = 0


class Supervisor:
    """Keeps parts running until `stop`. Signals are the business of whoever owns it."""

    def __init__(
        self,
        logs: Path,
        registry: ProcessRegistry,
        on_message: Callable[[str], None] = lambda line: None,
        on_failure: Callable[[str], None] = lambda message: None,
    ) -> None:
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
        """Start `part` and keep it running from now on; `await_ready` waits for it."""
        running = self.processes[spec.name] = SupervisedProcess(spec)
        thread = threading.Thread(
            target=self._supervise, args=(running,), name=f"tend-{spec.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return running

    def run(self, spec: ProcessSpec, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """Run `part` once to its end; its standard error is also kept in its log.

        Raises CancelledError if a stop was asked for, PartFailedError if it takes too long.
        """
        process = self._spawn(spec, subprocess.PIPE, subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            shut_down([t for t in self._registry.targets() if t.pid == process.pid])
            raise ProcessFailedError(f"{spec.name} did not end within {timeout_s:.0f} s.") from None
        finally:
            self._clean_up_after(process.pid)
        with open_log(self._log_path(spec)) as log:
            log.write(err)
        if self._stopping.is_set():
            raise StartCancelledError("A stop was asked for.")
        return subprocess.CompletedProcess(
            spec.argv,
            process.returncode,
            out.decode(errors="replace"),
            err.decode("utf-8", "replace"),
        )

    def await_ready(self, running: SupervisedProcess, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until the part says it is ready. Raises PartFailedError or CancelledError."""
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
        """Wait; raises CancelledError at once when a stop is asked for."""
        if self._stopping.wait(wait_s):
            raise StartCancelledError("A stop was asked for.")

    def cancel(self) -> None:
        """Start nothing any more: everyone who waits here gets CancelledError."""
        with self._spawn_mutex:
            self._stopping.set()

    def force_stop(self) -> None:
        """From now on `stop` kills instead of waiting."""
        self._force.set()

    def stop(self) -> None:
        """End everything, apps before the broker before the database. Safe to call twice."""
        self.cancel()
        shut_down(self._registry.targets(), self._force.is_set)
        for thread in self._threads:
            thread.join()

    def _supervise(self, running: SupervisedProcess) -> None:
        restarts = RestartPolicy()
        spec = running.spec
        while True:
            try:
                end = self._run_until_exit(running)
            except StartCancelledError:
                return
            if self._stopping.is_set():
                return
            wait_s = restarts.delay_after_death_s()
            if wait_s is None:
                self._give_up(
                    f"{spec.name} died {MOST_DEATHS} times in {WINDOW_S:.0f} s (the last time it "
                    f"{end}); giving up. The end of "
                    f"{self._log_path(spec)}:{last_lines(self._log_path(spec))}"
                )
                return
            self._on_message(f"{spec.name} {end}; starting it again")
            if self._stopping.wait(wait_s):
                return

    def _run_until_exit(self, running: SupervisedProcess) -> str:
        """Start the part and wait for its end; returns what became of it."""
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
        # Under the lock, so that a stop either sees this process or prevents it.
        with self._spawn_mutex:
            if self._stopping.is_set():
                raise StartCancelledError("A stop was asked for.")
            process = spawn(spec, out, err)
            start_time = process_start_time(process.pid) or "gone"
            target = ShutdownTarget(
                process.pid, start_time, spec.stage, spec.stop_signal, spec.grace_s
            )
            self._registry.add(target)
            open_gate(process)
        return process

    def _clean_up_after(self, pid: int) -> None:
        """Clear up behind a process that was waited for: what it left in its group goes too."""
        for target in self._registry.targets():
            if target.pid == pid:
                shut_down([target])
        self._registry.remove(pid)

    def _give_up(self, message: str) -> None:
        self.failure = message
        self._on_failure(message)

    def _log_path(self, spec: ProcessSpec) -> Path:
        return self._logs / f"{spec.name}.log"
