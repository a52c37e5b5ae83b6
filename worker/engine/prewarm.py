"""One engine process in reserve: torch is loaded, its request will come.

Each process of the pool has its own. It is used once, and ends by itself when its other end does.
"""

import atexit
import os
import subprocess
import sys
import threading

import structlog

from kdcore.protocol.requests import RunCommand
from store.settings import settings

log = structlog.get_logger()
_lock = threading.Lock()  # slots of a test may be threads
_prewarmed: "subprocess.Popen[bytes] | None" = None


def start_prewarmed(environment: dict[str, str], threads: int) -> None:
    """Have one wait, if none does."""
    global _prewarmed
    with _lock:
        if not settings().prewarm_engine or (_prewarmed is not None and _prewarmed.poll() is None):
            return
        if _prewarmed is not None:
            log.warning("prewarmed_engine_ended", exit=_prewarmed.returncode)
        _discard()
        try:
            _prewarmed = _start(environment, threads)
        except OSError as error:  # no room, no memory: the next engine is started when it is wanted
            log.warning("prewarm_failed", error=str(error))


def _start(environment: dict[str, str], threads: int) -> "subprocess.Popen[bytes]":
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "--prewarm", str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=settings().work_dir,
        env=environment,
        bufsize=0,  # a line that could not be sent must not be sent again by closing
        start_new_session=True,
    )


def take_prewarmed(run_command: RunCommand) -> "subprocess.Popen[bytes] | None":
    """The one that waits, sent on its errand; None where there is none."""
    global _prewarmed
    with _lock:
        process, _prewarmed = _prewarmed, None
    if process is None or process.stdin is None:
        return None
    try:
        process.stdin.write(run_command.model_dump_json().encode() + b"\n")
        process.stdin.flush()
    except OSError:
        log.warning("prewarmed_engine_ended", exit=process.poll())
        _kill(process)
        return None
    return process


def discard_prewarmed() -> None:
    """Let the one that waits go."""
    with _lock:
        _discard()


def _discard() -> None:
    global _prewarmed
    if _prewarmed is not None:
        _kill(_prewarmed)
    _prewarmed = None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _forget_after_fork() -> None:
    """After a fork: the one that waits is the parent's."""
    global _prewarmed
    _prewarmed = None


atexit.register(discard_prewarmed)
os.register_at_fork(after_in_child=_forget_after_fork)
