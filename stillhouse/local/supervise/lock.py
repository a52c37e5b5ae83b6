"""The lock of a data folder: one owner at a time, until the owner's last process has ended.

`filelock` takes the lock, and the watchdog inherits its descriptor. So the lock outlives an owner
that was killed: the next owner waits until the watchdog has ended the old owner's processes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stillhouse.local.errors import DataDirInUseError
from stillhouse.local.supervise.proc import process_identity

# A running owner is reported soon; the wait covers an owner that is just about to stop.
RUNNING_OWNER_WAIT_S = 3.0
STOPPING_OWNER_WAIT_S = 30.0
POLL_S = 0.1


class DataDirLock:
    """An exclusive lock on a folder; the lock file holds facts about the owner as JSON.

    Args:
        path: the lock file.
        running_owner_wait_s: how long to wait for an owner that runs.
        stopping_owner_wait_s: how long to wait for an owner that stops or was killed.
    """

    def __init__(
        self,
        path: Path,
        *,
        running_owner_wait_s: float = RUNNING_OWNER_WAIT_S,
        stopping_owner_wait_s: float = STOPPING_OWNER_WAIT_S,
    ) -> None:
        self._path = path
        self._running_owner_wait_s = running_owner_wait_s
        self._stopping_owner_wait_s = stopping_owner_wait_s
        self._owner_info: dict[str, object] = {}
        self.descriptor = -1
        # One thread acquires the lock and another releases it, hence not thread-local.
        self._lock = FileLock(
            path,
            mode=0o600,
            thread_local=False,
            fallback_to_soft=False,
            preserve_lock_file=True,
            on_acquired=self._set_descriptor,
        )

    def acquire(
        self,
        sleep: Callable[[float], None] = time.sleep,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Take the lock, after waiting for an owner that stops.

        Raises:
            DataDirInUseError: another process keeps the lock; the message names it.
        """
        started = time.monotonic()
        notified = False
        while not self._try_lock():
            owner = self._read_owner_info()
            runs = _is_running(owner)
            wait_s = self._running_owner_wait_s if runs else self._stopping_owner_wait_s
            if time.monotonic() - started > wait_s:
                raise DataDirInUseError(_in_use_message(self._path.parent, owner))
            if not notified and not runs:
                on_message(f"waiting for the previous owner of {self._path.parent} to finish")
                notified = True
            sleep(POLL_S)
        self.update_owner_info(
            pid=os.getpid(),
            identity=process_identity(os.getpid()),
            started=datetime.now(UTC).isoformat("T", "seconds"),
        )

    def update_owner_info(self, **facts: object) -> None:
        """Add facts about the owner (url, stopping) for a process that waits for the lock."""
        self._owner_info |= facts
        text = json.dumps(self._owner_info).encode()
        # On a full disk the facts stay old; the lock itself holds.
        with suppress(OSError):
            os.pwrite(self.descriptor, text, 0)
            os.ftruncate(self.descriptor, len(text))

    def release(self) -> None:
        """Release the folder. Every process that uses the folder must have ended."""
        if self.descriptor >= 0:
            self._lock.release()
            self.descriptor = -1

    def _set_descriptor(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def _try_lock(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def _read_owner_info(self) -> dict[str, object]:
        try:
            owner = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}


def _is_running(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    alive = isinstance(pid, int) and process_identity(pid) == owner.get("identity")
    return alive and not owner.get("stopping")


def _in_use_message(folder: Path, owner: dict[str, object]) -> str:
    process = f"process {owner['pid']}" if "pid" in owner else "another process"
    since = f", started {owner['started']}" if "started" in owner else ""
    address = f", serving {owner['url']}" if "url" in owner else ""
    return (
        f"{folder} is in use by {process}{since}{address}. "
        "Stop that process, or choose another folder with --data-dir."
    )
