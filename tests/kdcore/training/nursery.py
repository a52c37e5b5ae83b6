"""Engines as processes that start in an instant: forked from one that has torch loaded.

The server computes nothing and has no threads, so what it forks is as good as a fresh process, and
SIGKILL ends it as abruptly.
"""

import multiprocessing
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from kdcore.protocol.requests import RunRequest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["kdcore.training.run", "kdcore.process.main"])


def _engine(path: str, workdir: str) -> None:
    from kdcore.process.main import main

    sys.exit(main(["run", path, "--workdir", workdir]))


def start(request: RunRequest, workdir: Path) -> BaseProcess:
    """An engine at work on ``request``."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "request.json"
    # A checkpoint before every step, so that a kill meets every state from which a run resumes.
    request = request.model_copy(update={"checkpoint_interval_s": 0.0})
    path.write_text(request.model_dump_json())
    process = _CONTEXT.Process(target=_engine, args=(str(path), str(workdir)), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Its exit code, once it is done."""
    process.join(timeout=600)
    return process.exitcode


def kill_after(
    request: RunRequest, workdir: Path, text: str, count: int, later_s: float = 0.0
) -> bool:
    """Start an engine and SIGKILL it ``later_s`` after it has told ``count`` lines with ``text``.

    Whether it was still alive to be killed.
    """
    goal = lines(workdir, text) + count
    process = start(request, workdir)
    end = time.monotonic() + 600
    while lines(workdir, text) < goal and process.is_alive():
        assert time.monotonic() < end
        time.sleep(0.001)
    time.sleep(later_s)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def lines(workdir: Path, text: str) -> int:
    """How many lines of its events hold ``text``."""
    path = workdir / "events.jsonl"
    return path.read_text().count(text) if path.exists() else 0
