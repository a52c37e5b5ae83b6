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

ENV_VARIABLE = "STILLHOUSE_FAILPOINTS"


def failpoint(name: str) -> None:
    """Do what a test has asked for at this place."""
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
        (folder / name).rename(claimed)  # of several processes, one succeeds
    except FileNotFoundError:
        return
    action, _, rest = claimed.read_text().partition(" ")
    claimed.rename(folder / f".met-{name}-{time.monotonic_ns()}")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "sleep":
        time.sleep(float(rest))  # to hang is what was asked for
    else:
        raise OSError(rest)
