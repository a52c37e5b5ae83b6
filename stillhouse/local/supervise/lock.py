"""One owner for a data folder: the owner's watchdog keeps the lock until the last part is gone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from stillhouse.local.errors import FolderInUseError
from stillhouse.local.supervise.proc import birth

DYING_WAIT_S = 30.0
# A healthy owner is named soon; the moment covers one that was told to stop just now.
HEALTHY_WAIT_S = 3.0
POLL_S = 0.1


class FolderLock:
    """An exclusive lock on a folder, with a note in it that says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._note: dict[str, object] = {}
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(
        self,
        pause: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Take the lock; wait for a dying owner. Raises FolderInUseError, naming the owner."""
        began = time.monotonic()
        told = False
        while not self._try():
            holder = self._holder()
            wait_s = HEALTHY_WAIT_S if _healthy(holder) else DYING_WAIT_S
            if time.monotonic() - began > wait_s:
                raise FolderInUseError(_sentence(self._path.parent, holder))
            if not told and not _healthy(holder):
                say(f"waiting for the previous owner of {self._path.parent} to finish")
                told = True
            pause(POLL_S)
        born = birth(os.getpid())
        self.note(pid=os.getpid(), born=born, started=datetime.now(UTC).isoformat("T", "seconds"))

    def note(self, **facts: object) -> None:
        """Add facts about the owner (host, port, stopping) for whoever comes second."""
        self._note |= facts
        text = json.dumps(self._note).encode()
        # On a full disk the note is old; the lock itself holds.
        with suppress(OSError):
            os.pwrite(self.descriptor, text, 0)
            os.ftruncate(self.descriptor, len(text))

    def release(self) -> None:
        """Give the folder up; the caller has ended everything that used it."""
        if self.descriptor >= 0:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> dict[str, object]:
        try:
            holder = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}


def _healthy(holder: dict[str, object]) -> bool:
    pid = holder.get("pid")
    alive = isinstance(pid, int) and birth(pid) == holder.get("born")
    return alive and not holder.get("stopping")


def _sentence(folder: Path, holder: dict[str, object]) -> str:
    who = f"process {holder['pid']}" if "pid" in holder else "another process"
    since = f", started {holder['started']}" if "started" in holder else ""
    where = f", serving {holder['url']}" if "url" in holder else ""
    return (
        f"{folder} is in use by {who}{since}{where}. "
        "Stop that one, or choose another folder with --data-dir."
    )
