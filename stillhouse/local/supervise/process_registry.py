"""`ProcessRegistry`: the running processes, in memory, in a file and in the watchdog."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from stillhouse.local.data_dir import write_private
from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down
from stillhouse.local.supervise.watchdog import Watchdog


class ProcessRegistry:
    """The running processes. The next owner reads the file if the watchdog was killed as well."""

    def __init__(self, path: Path, watchdog: Watchdog | None = None) -> None:
        self._path = path
        self.watchdog = watchdog
        self._mutex = threading.Lock()
        self._targets: dict[int, ShutdownTarget] = {}

    def add(self, target: ShutdownTarget) -> None:
        """Register a process before its program starts."""
        with self._mutex:
            self._targets[target.pid] = target
            if self.watchdog:
                self.watchdog.add(target)
            self._write()

    def remove(self, pid: int) -> None:
        """Remove a process that has ended."""
        with self._mutex:
            self._targets.pop(pid, None)
            if self.watchdog:
                self.watchdog.remove(pid)
            self._write()

    def targets(self) -> list[ShutdownTarget]:
        """Return every registered process."""
        with self._mutex:
            return list(self._targets.values())

    def _write(self) -> None:
        lines = [target.to_line() for target in self._targets.values()]
        # A full disk must not stop a start or a stop; the watchdog has the targets as well.
        with suppress(OSError):
            header = [_folder_line(self._path.parent)] if lines else []
            text = "".join(f"{line}\n" for line in [*header, *lines])
            write_private(self._path, text, sync=False)


def _folder_line(folder: Path) -> str:
    """Return the first line of the file: it names the folder by its device and its inode."""
    status = folder.stat()
    return f"folder {status.st_dev}:{status.st_ino}"


def end_leftover_processes(path: Path) -> int:
    """End what an earlier owner and its watchdog left running; return the number of processes.

    The caller holds the folder's lock, so no other owner uses these processes. In a copy of the
    folder, the file names processes of the original, which may run.
    """
    lines: list[str] = []
    with suppress(FileNotFoundError):
        lines = path.read_text(encoding="utf-8").splitlines()
    if lines and lines[0].startswith("folder ") and lines[0] != _folder_line(path.parent):
        lines = []
    targets = []
    for line in lines:
        with suppress(ValueError):
            targets.append(ShutdownTarget.parse(line))
    leftover = [target for target in targets if target.pid != os.getpid() and target.alive]
    shut_down(leftover)
    path.unlink(missing_ok=True)
    return len(leftover)
