"""One engine process in reserve: torch is loaded, its request will come.

Each process of the pool has its own. It is used once, and ends by itself when its other end does.
"""

import atexit
import os
import subprocess
import sys
import threading

import structlog

from kdcore.protocol.requests import Errand
from store.settings import settings

log = structlog.get_logger()
_lock = threading.Lock()  # slots of a test may be threads
_waiting: "subprocess.Popen[bytes] | None" = None


def prepare(environment: dict[str, str], threads: int) -> None:
    """Have one wait, if none does."""
    global _waiting
    with _lock:
        if not settings().spare_engine or (_waiting is not None and _waiting.poll() is None):
            return
        if _waiting is not None:
            log.warning("spare_engine_ended", exit=_waiting.returncode)
        _discard()
        try:
            _waiting = _started(environment, threads)
        except OSError as error:  # no room, no memory: the next engine is started when it is wanted
            log.warning("no_spare_engine", error=str(error))


def _started(environment: dict[str, str], threads: int) -> "subprocess.Popen[bytes]":
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "--wait", str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=settings().work_dir,
        env=environment,
        bufsize=0,  # a line that could not be sent must not be sent again by closing
        start_new_session=True,
    )


def take(errand: Errand) -> "subprocess.Popen[bytes] | None":
    """The one that waits, sent on its errand; None where there is none."""
    global _waiting
    with _lock:
        process, _waiting = _waiting, None
    if process is None or process.stdin is None:
        return None
    try:
        process.stdin.write(errand.model_dump_json().encode() + b"\n")
        process.stdin.flush()
    except OSError:
        log.warning("spare_engine_ended", exit=process.poll())
        _end(process)
        return None
    return process


def close() -> None:
    """Let the one that waits go."""
    with _lock:
        _discard()


def _discard() -> None:
    global _waiting
    if _waiting is not None:
        _end(_waiting)
    _waiting = None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _forget() -> None:
    """After a fork: the one that waits is the parent's."""
    global _waiting
    _waiting = None


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
