"""Every running process of the stack: known here, in a file and to the watchdog."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from stillhouse.local.supervise.proc import process_start_time
from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down
from stillhouse.local.supervise.watchdog_client import WatchdogClient


class ProcessRegistry:
    """The running targets. The file is for the next owner, should the watchdog be killed too."""

    def __init__(self, path: Path, watchdog: WatchdogClient | None = None) -> None:
        self._path = path
        self.watchdog = watchdog
        self._mutex = threading.Lock()
        self._targets: dict[int, ShutdownTarget] = {}

    def add(self, target: ShutdownTarget) -> None:
        """Enter a process before it becomes its part."""
        with self._mutex:
            self._targets[target.pid] = target
            if self.watchdog:
                self.watchdog.add(target)
            self._write()

    def remove(self, pid: int) -> None:
        """Take out a process that has ended."""
        with self._mutex:
            self._targets.pop(pid, None)
            if self.watchdog:
                self.watchdog.remove(pid)
            self._write()

    def targets(self) -> list[ShutdownTarget]:
        """Everything that runs now."""
        with self._mutex:
            return list(self._targets.values())

    def _write(self) -> None:
        text = "".join(f"{target.to_line()}\n" for target in self._targets.values())
        fresh = self._path.with_suffix(".new")
        # A full disk must neither stop a start nor a stop; the watchdog knows the targets anyway.
        with suppress(OSError):
            fresh.write_text(text)
            fresh.replace(self._path)


def end_leftover_processes(path: Path) -> int:
    """End what an earlier owner and its watchdog left running; returns how many there were.

    The caller holds the folder's lock, so whatever still lives belongs to nobody.
    """
    targets = []
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                targets.append(ShutdownTarget.parse(line))
    living = [
        t for t in targets if t.pid != os.getpid() and process_start_time(t.pid) == t.start_time
    ]
    shut_down(living)
    path.unlink(missing_ok=True)
    return len(living)
