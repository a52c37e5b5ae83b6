"""Engine processes that start at once, because they are forked from one that has loaded torch.

The fork server computes nothing and has no threads, so its forks behave like new processes, and
SIGKILL ends them as abruptly.
"""

import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from kdcore.protocol.requests import RunRequest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["kdcore.training.run", "kdcore.process.main"])


def _run_engine(path: str, workdir: str) -> None:
    from kdcore.process.main import main

    sys.exit(main(["run", path, "--workdir", workdir]))


def write_request(request: RunRequest, workdir: Path) -> Path:
    """Write the request as a file, with a checkpoint before every step.

    A kill then meets every state from which a run can resume.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "request.json"
    request = request.model_copy(update={"checkpoint_interval_s": 0.0})
    path.write_text(request.model_dump_json())
    return path


def start(request: RunRequest, workdir: Path) -> BaseProcess:
    """Start an engine process for ``request``."""
    path = write_request(request, workdir)
    process = _CONTEXT.Process(target=_run_engine, args=(str(path), str(workdir)), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Wait for the process and return its exit code."""
    process.join(timeout=600)
    return process.exitcode


def kill_after(
    request: RunRequest, workdir: Path, text: str, count: int, delay_s: float = 0.0
) -> bool:
    """Start an engine and SIGKILL it after ``count`` more event lines that contain ``text``.

    ``delay_s`` is a random delay before the kill, so that it meets any moment of a step. Returns
    whether the engine was still running.
    """
    goal = count_lines(workdir, text) + count
    process = start(request, workdir)
    wait_for_lines(workdir, text, goal, process.is_alive)
    time.sleep(delay_s)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def kill_running(request: RunRequest, workdir: Path, text: str, count: int) -> None:
    """Like ``kill_after`` in a new folder, but the engine was certainly running.

    On a busy machine the engine may end before the kill; then it starts again in an empty folder.

    Raises:
        RuntimeError: it ended before the kill five times.
    """
    for _ in range(5):
        if kill_after(request, workdir, text, count):
            return
        shutil.rmtree(workdir)
    raise RuntimeError(f"the engine ended five times before {count} lines with {text} were noticed")


def wait_for_lines(
    workdir: Path, text: str, goal: int, is_alive: Callable[[], bool], timeout_s: float = 600.0
) -> None:
    """Wait until ``goal`` event lines contain ``text``, or until the process ends.

    Raises:
        TimeoutError: neither happened in time.
    """
    deadline = time.monotonic() + timeout_s
    while count_lines(workdir, text) < goal and is_alive():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no {goal} lines with {text} within {timeout_s} s")
        time.sleep(0.001)  # a kill must meet the step, so it polls often


def count_lines(workdir: Path, text: str) -> int:
    """Number of event lines that contain ``text``."""
    path = workdir / "events.jsonl"
    return path.read_text().count(text) if path.exists() else 0
