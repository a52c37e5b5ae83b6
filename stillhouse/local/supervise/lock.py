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

from stillhouse.local.errors import DataDirInUseError
from stillhouse.local.supervise.proc import process_start_time

DYING_WAIT_S = 30.0
# A healthy owner is named soon; the moment covers one that was told to stop just now.
HEALTHY_WAIT_S = 3.0
POLL_S = 0.1


class DataDirLock:
    """An exclusive lock on a folder, with a note in it that says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner_info: dict[str, object] = {}
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(
        self,
        sleep: Callable[[float], None] = time.sleep,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Take the lock; wait for a dying owner. Raises FolderInUseError, naming the owner."""
        began = time.monotonic()
        notified = False
        while not self._try_lock():
            owner = self._read_owner_info()
            wait_s = HEALTHY_WAIT_S if _is_healthy(owner) else DYING_WAIT_S
            if time.monotonic() - began > wait_s:
                raise DataDirInUseError(_in_use_message(self._path.parent, owner))
            if not notified and not _is_healthy(owner):
                on_message(f"waiting for the previous owner of {self._path.parent} to finish")
                notified = True
            sleep(POLL_S)
        start_time = process_start_time(os.getpid())
        self.update_owner_info(
            pid=os.getpid(), born=start_time, started=datetime.now(UTC).isoformat("T", "seconds")
        )

    def update_owner_info(self, **facts: object) -> None:
        """Add facts about the owner (host, port, stopping) for whoever comes second."""
        self._owner_info |= facts
        text = json.dumps(self._owner_info).encode()
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

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read_owner_info(self) -> dict[str, object]:
        try:
            owner = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}


def _is_healthy(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    alive = isinstance(pid, int) and process_start_time(pid) == owner.get("born")
    return alive and not owner.get("stopping")


def _in_use_message(folder: Path, owner: dict[str, object]) -> str:
    who = f"process {owner['pid']}" if "pid" in owner else "another process"
    since = f", started {owner['started']}" if "started" in owner else ""
    where = f", serving {owner['url']}" if "url" in owner else ""
    return (
        f"{folder} is in use by {who}{since}{where}. "
        "Stop that one, or choose another folder with --data-dir."
    )
