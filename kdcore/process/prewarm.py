"""``python -m kdcore run --wait [THREADS]``: everything is loaded, and one request is waited for.

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

from kdcore.process.main import serve
from kdcore.protocol.requests import Errand
from kdcore.runtime import limits

_LOADED = ("kdcore.training.run", "kdcore.export.exporter")


def main(arguments: list[str]) -> int:
    """Load, wait, run. Ends at once when the other end of its standard input closes."""
    limits.share(int(arguments[0]) if arguments else None)
    sent: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # From the beginning: who is not wanted any more does not load torch to the end.
    threading.Thread(target=_listen, args=(sent,), name="supervisor-watch", daemon=True).start()
    for name in _LOADED:
        importlib.import_module(name)
    errand = Errand.model_validate_json(sent.get())
    workdir = Path(errand.workdir)
    _become(errand, workdir)
    return serve("run", Path(errand.request), workdir, workdir / "events.jsonl")


def _listen(sent: "queue.SimpleQueue[bytes]") -> None:
    """Hand on the one line that comes; end the process when nothing can come any more."""
    line = b""
    while not line.endswith(b"\n"):
        # Not sys.stdin: a daemon thread inside a buffered reader aborts a normal exit.
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        line += byte
    sent.put(line)
    limits.await_supervisor()


def _become(errand: Errand, workdir: Path) -> None:
    """Be what a process is that was started for this errand."""
    os.environ.update(errand.environment)
    os.chdir(workdir)
    tempfile.tempdir = None  # another TMPDIR counts from now on
    told = os.open(errand.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(told, standard)
    os.close(told)
