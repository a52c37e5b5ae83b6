"""``python -m kdcore run --prewarm [THREADS]``: load everything, then wait for one request.

Loading torch takes longer than a small job's first step. Whoever supervises therefore keeps one
process that has done so, gives it its request as one line on its standard input
(:class:`kdcore.protocol.requests.Errand`), and starts another. It is used once, so that a run still
has a process of its own.
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
    """Load, wait, run. Ends at once when the other end of its standard input closes."""
    limits.set_thread_counts(int(arguments[0]) if arguments else None)
    request_lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # From the beginning: who is not wanted any more does not load torch to the end.
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
    """Hand on the one line that comes; end the process when nothing can come any more."""
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
    """Be what a process is that was started for this errand."""
    os.environ.update(run_command.environment)
    os.chdir(workdir)
    tempfile.tempdir = None  # another TMPDIR counts from now on
    output_descriptor = os.open(run_command.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(output_descriptor, standard)
    os.close(output_descriptor)
