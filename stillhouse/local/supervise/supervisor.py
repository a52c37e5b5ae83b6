"""Starts parts, starts them again when they die, and ends them in order."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stillhouse.local.errors import CancelledError, PartFailedError
from stillhouse.local.supervise.proc import birth
from stillhouse.local.supervise.process_registry import Roster
from stillhouse.local.supervise.process_spec import Part
from stillhouse.local.supervise.restart_policy import MOST_DEATHS, WINDOW_S, Restarts
from stillhouse.local.supervise.spawn import last_lines, launch, open_gate, open_log
from stillhouse.local.supervise.stop_order import Target, wind_down

READY_POLL_S = 0.05
READY_WITHIN_S = 120.0


class Running:
    """A part that is kept running; `pid` is 0 between a death and the next start."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pid = 0
        self.starts = 0


class Supervisor:
    """Keeps parts running until `stop`. Signals are the business of whoever owns it."""

    def __init__(
        self,
        logs: Path,
        roster: Roster,
        say: Callable[[str], None] = lambda line: None,
        on_failure: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._logs = logs
        self._roster = roster
        self._say = say
        self._on_failure = on_failure
        self._launching = threading.Lock()
        self._stopping = threading.Event()
        self._hurried = threading.Event()
        self._threads: list[threading.Thread] = []
        self.running: dict[str, Running] = {}
        self.failure: str | None = None

    def start(self, part: Part) -> Running:
        """Start `part` and keep it running from now on; `await_ready` waits for it."""
        running = self.running[part.name] = Running(part)
        thread = threading.Thread(
            target=self._tend, args=(running,), name=f"tend-{part.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return running

    def run(self, part: Part, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """Run `part` once to its end; its standard error is also kept in its log.

        Raises CancelledError if a stop was asked for, PartFailedError if it takes too long.
        """
        process = self._launch(part, subprocess.PIPE, subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            wind_down([t for t in self._roster.targets() if t.pid == process.pid])
            raise PartFailedError(f"{part.name} did not end within {timeout_s:.0f} s.") from None
        finally:
            self._ended(process.pid)
        with open_log(self._log(part)) as log:
            log.write(err)
        if self._stopping.is_set():
            raise CancelledError("A stop was asked for.")
        return subprocess.CompletedProcess(
            part.argv,
            process.returncode,
            out.decode(errors="replace"),
            err.decode("utf-8", "replace"),
        )

    def await_ready(self, running: Running, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until the part says it is ready. Raises PartFailedError or CancelledError."""
        part = running.part
        deadline = time.monotonic() + timeout_s
        while not (running.pid and (part.ready is None or part.ready())):
            if self.failure:
                raise PartFailedError(self.failure)
            if time.monotonic() > deadline:
                tail = last_lines(self._log(part))
                raise PartFailedError(f"{part.name} was not ready within {timeout_s:.0f} s.{tail}")
            self.pause(READY_POLL_S)

    def pause(self, wait_s: float) -> None:
        """Wait; raises CancelledError at once when a stop is asked for."""
        if self._stopping.wait(wait_s):
            raise CancelledError("A stop was asked for.")

    def cancel(self) -> None:
        """Start nothing any more: everyone who waits here gets CancelledError."""
        with self._launching:
            self._stopping.set()

    def hurry(self) -> None:
        """From now on `stop` kills instead of waiting."""
        self._hurried.set()

    def stop(self) -> None:
        """End everything, apps before the broker before the database. Safe to call twice."""
        self.cancel()
        wind_down(self._roster.targets(), self._hurried.is_set)
        for thread in self._threads:
            thread.join()

    def _tend(self, running: Running) -> None:
        restarts = Restarts()
        part = running.part
        while True:
            try:
                end = self._live(running)
            except CancelledError:
                return
            if self._stopping.is_set():
                return
            wait_s = restarts.wait_after_death()
            if wait_s is None:
                self._give_up(
                    f"{part.name} died {MOST_DEATHS} times in {WINDOW_S:.0f} s (the last time it "
                    f"{end}); giving up. The end of {self._log(part)}:{last_lines(self._log(part))}"
                )
                return
            self._say(f"{part.name} {end}; starting it again")
            if self._stopping.wait(wait_s):
                return

    def _live(self, running: Running) -> str:
        """Start the part and wait for its end; returns what became of it."""
        try:
            process = self._start_logged(running)
        except OSError as error:
            return f"could not be started: {error}"
        code = process.wait()
        running.pid = 0
        self._ended(process.pid)
        return f"ended with exit status {code}"

    def _start_logged(self, running: Running) -> subprocess.Popen[bytes]:
        part = running.part
        if part.before:
            part.before()
        with open_log(self._log(part)) as log:
            process = self._launch(part, log, log)
        running.starts += 1
        running.pid = process.pid
        return process

    def _launch(
        self, part: Part, out: IO[bytes] | int, err: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        # Under the lock, so that a stop either sees this process or prevents it.
        with self._launching:
            if self._stopping.is_set():
                raise CancelledError("A stop was asked for.")
            process = launch(part, out, err)
            born = birth(process.pid) or "gone"
            target = Target(process.pid, born, part.stage, part.stop_signal, part.grace_s)
            self._roster.add(target)
            open_gate(process)
        return process

    def _ended(self, pid: int) -> None:
        """Clear up behind a process that was waited for: what it left in its group goes too."""
        for target in self._roster.targets():
            if target.pid == pid:
                wind_down([target])
        self._roster.remove(pid)

    def _give_up(self, message: str) -> None:
        self.failure = message
        self._on_failure(message)

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"
