"""Identify, list and signal processes, safe against re-used process ids. Built on psutil.

`psutil.wait_procs` is not used. It reaps children that `subprocess.Popen` waits for, and it waits
for zombies that no parent reaps, which a container without an init process collects.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


@functools.cache
def _boot_id() -> str:
    """Eight letters that differ between two boots; empty on systems without /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def process_identity(pid: int) -> str | None:
    """Return text that no other process has, or had; None for a zombie or an unused id.

    The text is only good for comparing. It survives changes of the clock and fits in a file:
    psutil hashes the id and the time since boot, and every Python hashes numbers alike.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
    except psutil.NoSuchProcess:
        return None
    return f"{_boot_id()}-{hash(process):x}"


def process_tree(pids: Iterable[int]) -> dict[int, str]:
    """Return the living processes of `pids` and all their descendants, each with its identity."""
    members: set[int] = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            members |= {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    identities = {pid: process_identity(pid) for pid in members}
    return {pid: identity for pid, identity in identities.items() if identity is not None}


def send_signal(pid: int, number: int) -> None:
    """Signal one process; a process that has already ended is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Send SIGKILL to what is left of the process group that `pid` led."""
    # Group 0 is the caller's, and -1 would be every process.
    if pid > 1:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
