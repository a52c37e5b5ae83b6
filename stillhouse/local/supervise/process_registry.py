"""Every running process of the stack: known here, in a file and to the watchdog."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from stillhouse.local.supervise.proc import birth
from stillhouse.local.supervise.stop_order import Target, wind_down
from stillhouse.local.supervise.watchdog_client import Guard


class Roster:
    """The running targets. The file is for the next owner, should the watchdog be killed too."""

    def __init__(self, path: Path, guard: Guard | None = None) -> None:
        self._path = path
        self.guard = guard
        self._changing = threading.Lock()
        self._targets: dict[int, Target] = {}

    def add(self, target: Target) -> None:
        """Enter a process before it becomes its part."""
        with self._changing:
            self._targets[target.pid] = target
            if self.guard:
                self.guard.add(target)
            self._write()

    def remove(self, pid: int) -> None:
        """Take out a process that has ended."""
        with self._changing:
            self._targets.pop(pid, None)
            if self.guard:
                self.guard.remove(pid)
            self._write()

    def targets(self) -> list[Target]:
        """Everything that runs now."""
        with self._changing:
            return list(self._targets.values())

    def _write(self) -> None:
        text = "".join(f"{target.line()}\n" for target in self._targets.values())
        fresh = self._path.with_suffix(".new")
        # A full disk must neither stop a start nor a stop; the watchdog knows the targets anyway.
        with suppress(OSError):
            fresh.write_text(text)
            fresh.replace(self._path)


def end_leftovers(path: Path) -> int:
    """End what an earlier owner and its watchdog left running; returns how many there were.

    The caller holds the folder's lock, so whatever still lives belongs to nobody.
    """
    targets = []
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                targets.append(Target.parse(line))
    living = [t for t in targets if t.pid != os.getpid() and birth(t.pid) == t.born]
    wind_down(living)
    path.unlink(missing_ok=True)
    return len(living)
