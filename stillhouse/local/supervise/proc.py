"""Who is alive: processes named so that a re-used process id is never taken for the old one."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


@functools.cache
def _boot() -> str:
    """Eight letters that differ between two boots; empty where the system does not say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def _linux() -> bool:
    return (PROC / "self/stat").exists()


def _stat(pid: int | str) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name before them may hold any character."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _ps(*arguments: str) -> str:
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(
        ["ps", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def process_start_time(pid: int) -> str | None:
    """When `pid` began, as text only good for comparing; None if it is gone or only a zombie."""
    if not _linux():
        state, _, started = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip().partition(" ")
        return None if not state or state.startswith("Z") else started.strip()
    try:
        fields = _stat(pid)
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else f"{_boot()}-{fields[19]}"


def _parents() -> dict[int, int]:
    if not _linux():
        rows = (line.split() for line in _ps("-axo", "pid=,ppid=").splitlines())
        return {int(row[0]): int(row[1]) for row in rows if len(row) == 2}
    parents = {}
    for entry in os.listdir(PROC):
        if entry.isdigit():
            with suppress(OSError, IndexError):
                parents[int(entry)] = int(_stat(entry)[1])
    return parents


def process_tree(pids: list[int]) -> dict[int, str]:
    """Every living process below `pids`, themselves included, with its birth."""
    parents = _parents()
    members = {pid for pid in pids if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    start_times = {pid: process_start_time(pid) for pid in members}
    return {pid: start_time for pid, start_time in start_times.items() if start_time is not None}


def send_signal(pid: int, number: int) -> None:
    """Signal one process; one that has gone already is no fault."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """SIGKILL what is left of the process group that `pid` led."""
    # Groups 0 and 1 would be ours and everyone's.
    if pid > 1:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
