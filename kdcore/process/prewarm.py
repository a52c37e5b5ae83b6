"""``python -m kdcore run --prewarm [THREADS]``: load everything, then wait for one request.

Importing torch takes longer than the first step of a small job. So the worker keeps one prewarmed
process, sends it a request as one line on its standard input
(:class:`kdcore.protocol.requests.RunCommand`) and starts the next one. Every process runs one
request, so that runs stay separate.
"""

import importlib
import os
import queue
import tempfile
import threading
from pathlib import Path

from kdcore.process.main import run_request
from kdcore.protocol.requests import RunCommand
from kdcore.runtime import limits

_PRELOADED_MODULES = ("kdcore.training.run", "kdcore.export.exporter")


def main(arguments: list[str]) -> int:
    """Import everything, wait for a request, run it; exit when standard input closes."""
    limits.set_thread_counts(int(arguments[0]) if arguments else None)
    request_lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Started first, so that the process can exit before torch is imported.
    threading.Thread(
        target=_read_request_line, args=(request_lines,), name="supervisor-watch", daemon=True
    ).start()
    for name in _PRELOADED_MODULES:
        importlib.import_module(name)
    run_command = RunCommand.model_validate_json(request_lines.get())
    workdir = Path(run_command.workdir)
    _apply_run_command(run_command, workdir)
    return run_request("run", Path(run_command.request), workdir, workdir / "events.jsonl")


def _read_request_line(request_lines: "queue.SimpleQueue[bytes]") -> None:
    """Put the one line into the queue; exit the process when standard input closes."""
    line = b""
    while not line.endswith(b"\n"):
        # Not sys.stdin: a daemon thread inside a buffered reader aborts a normal exit.
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        line += byte
    request_lines.put(line)
    limits.wait_for_supervisor_exit()


def _apply_run_command(run_command: RunCommand, workdir: Path) -> None:
    """Set environment, working directory and output as for a process started for this run."""
    os.environ.update(run_command.environment)
    os.chdir(workdir)
    tempfile.tempdir = None  # TMPDIR may have changed
    output_descriptor = os.open(run_command.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(output_descriptor, standard)
    os.close(output_descriptor)
