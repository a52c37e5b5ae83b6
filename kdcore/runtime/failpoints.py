"""Failpoints: named points at which a test can kill, delay or fail a process.

A test sets ``STILLHOUSE_FAILPOINTS`` to a folder and writes a file there. Its name is the
failpoint, its text the action: ``kill``, ``sleep SECONDS`` or ``raise MESSAGE`` (an ``OSError``).
The first process that reaches the failpoint removes the file, so each file acts once.
"""

import functools
import os
import signal
import time
from pathlib import Path

ENV_VARIABLE = "STILLHOUSE_FAILPOINTS"


def failpoint(name: str) -> None:
    """Run the action that a test has set for this failpoint, if any."""
    folder = _folder()
    if folder is not None and (folder / name).exists():
        _trigger(folder, name)


@functools.cache
def _folder() -> Path | None:
    value = os.environ.get(ENV_VARIABLE)
    return Path(value) if value else None


def _trigger(folder: Path, name: str) -> None:
    claimed = folder / f".{name}.{os.getpid()}"
    try:
        (folder / name).rename(claimed)  # succeeds in one of several processes
    except FileNotFoundError:
        return
    action, _, rest = claimed.read_text().partition(" ")
    claimed.rename(folder / f".met-{name}-{time.monotonic_ns()}")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "sleep":
        time.sleep(float(rest))  # the test needs a process that hangs
    else:
        raise OSError(rest)
