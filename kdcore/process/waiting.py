"""``python -m kdcore run --wait [THREADS]``: everything is loaded, and one request is waited for.

Loading torch takes longer than a small job's first step. Whoever supervises therefore keeps one
process that has done so, gives it its request as one line on its standard input
(:class:`kdcore.spec.protocol.Errand`), and starts another. It is used once, so that a run still has
a process of its own.
"""

import importlib
import os
import tempfile
from pathlib import Path

from kdcore.process import limits
from kdcore.process.main import serve
from kdcore.spec.protocol import Errand

_LOADED = ("kdcore.training.run", "kdcore.export.forms")


def main(arguments: list[str]) -> int:
    """Load, wait, run; 0 where nobody has any use for it any more."""
    limits.share(int(arguments[0]) if arguments else None)
    for name in _LOADED:
        importlib.import_module(name)
    line = _line()
    if not line:
        return 0
    limits.die_with_supervisor()
    errand = Errand.model_validate_json(line)
    workdir = Path(errand.workdir)
    _become(errand, workdir)
    return serve("run", Path(errand.request), workdir, workdir / "events.jsonl")


def _line() -> bytes:
    """The line that is sent, or nothing where the other end closes first."""
    # Not sys.stdin: what its buffer holds back, the watch for the end would never see.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _become(errand: Errand, workdir: Path) -> None:
    """Be what a process is that was started for this errand."""
    os.environ.update(errand.environment)
    os.chdir(workdir)
    tempfile.tempdir = None  # another TMPDIR counts from now on
    told = os.open(errand.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(told, standard)
    os.close(told)
