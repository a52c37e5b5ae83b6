"""Places where a test lets a process die, hang or fail; nothing happens unless a test asks.

A test names a folder in ``STILLHOUSE_FAILPOINTS`` and puts a file there whose name is the place and
whose text is what shall happen: ``kill``, ``sleep SECONDS`` or ``raise WORDS`` (an OSError). The
process that comes by first takes the file away, so that each is met once.
"""

import functools
import os
import signal
import time
from pathlib import Path

VARIABLE = "STILLHOUSE_FAILPOINTS"


def failpoint(name: str) -> None:
    """Do what a test has asked for at this place."""
    folder = _folder()
    if folder is not None and (folder / name).exists():
        _meet(folder, name)


@functools.cache
def _folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def _meet(folder: Path, name: str) -> None:
    taken = folder / f".{name}.{os.getpid()}"
    try:
        (folder / name).rename(taken)  # of several processes, one succeeds
    except FileNotFoundError:
        return
    act, _, rest = taken.read_text().partition(" ")
    taken.rename(folder / f".met-{name}-{time.monotonic_ns()}")
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "sleep":
        time.sleep(float(rest))  # to hang is what was asked for
    else:
        raise OSError(rest)
