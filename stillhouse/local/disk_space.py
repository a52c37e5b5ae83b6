"""Disk and shared memory: enough to start, a full disk, a watch that reports too little."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stillhouse.local.errors import DataDirError, LocalStackError

MIN_START_BYTES = 128 * 2**20
"""For the first start: the new database takes about 60 MB."""
FULL_BYTES = 32 * 2**20
"""With less, Postgres cannot write its log: one of its files has 16 MB."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its free space is read
MIN_SHARED_MEMORY_BYTES = 512 * 2**10
"""A lock takes a page of 4 kB, and the workers have some thirty."""
POLL_S = 5.0
FULL_DISK_POLL_S = 1.0


def is_full(folder: Path) -> bool:
    """Whether Postgres cannot run on the disk of this folder."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free < FULL_BYTES
    return False


def check_enough_to_start(folder: Path, *, first_start: bool) -> None:
    """Raise DataDirError unless Postgres can start on the disk of this folder."""
    free, needed = shutil.disk_usage(folder).free, MIN_START_BYTES if first_start else FULL_BYTES
    if free < needed:
        raise DataDirError(
            f"The disk of {folder} has {free // 10**6} MB left, and "
            f"{-(-needed // 10**6)} MB are needed to start. Free some space, or choose another "
            "folder with --data-dir."
        )


def check_shared_memory(folder: Path = SHARED_MEMORY) -> None:
    """Raise LocalStackError unless the workers can create their locks in shared memory."""
    if sys.platform != "linux":
        return
    free = 0
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
    if free < MIN_SHARED_MEMORY_BYTES:
        raise LocalStackError(
            f"The shared memory in {folder} has {free // 1000} kB left, and "
            f"{MIN_SHARED_MEMORY_BYTES // 1000} kB are needed. In a container, set its size, such "
            "as `docker run --shm-size=64m`."
        )


class DiskSpaceWatch:
    """Reports when jobs wait for disk space, and when they go on.

    Args:
        base_url: the API's address on this machine.
        on_message: called with a line about each change.
    """

    def __init__(self, base_url: str, on_message: Callable[[str], None]) -> None:
        self._url = f"{base_url}/readyz"
        self._on_message = on_message
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="disk-space", daemon=True)

    def start(self) -> None:
        """Watch from a thread until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch. Safe to call before `start`."""
        self._stop.set()

    def _watch(self) -> None:
        waits = False
        while not self._stop.is_set():
            problem = self._problem()
            if problem and not waits:
                self._on_message(f"jobs wait: {problem}")
            elif waits and problem == "":
                self._on_message("the disk has space again: jobs go on")
            waits = waits if problem is None else bool(problem)
            self._stop.wait(POLL_S)

    def _problem(self) -> str | None:
        """Return what the API reports: an empty text for enough space, None without a response."""
        import httpx

        with suppress(httpx.HTTPError, ValueError, KeyError):
            response = httpx.get(self._url, timeout=5.0, trust_env=False)
            report = str(response.json()["checks"]["worker_disk_space"])
            return "" if report == "ok" else report
        return None
