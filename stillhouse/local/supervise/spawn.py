"""Starting one process so that no instant exists in which nobody would end it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, TypedDict

from stillhouse.local.supervise.process_spec import ProcessSpec

LOG_LIMIT_BYTES = 10_000_000
# The process waits for a word before it becomes the part. A supervisor killed between starting it
# and telling the watchdog closes the pipe instead, and the process goes by itself.
GATE = ("/bin/sh", "-c", 'read -r word && exec "$@" </dev/null', "sh")


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def spawn(spec: ProcessSpec, out: IO[bytes] | int, err: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start `part` behind its gate, in a session of its own; `open_gate` lets it run."""
    identity = _Identity()
    if spec.user is not None:
        identity = _Identity(user=spec.user, group=spec.user, extra_groups=[])
    return subprocess.Popen(
        [*GATE, *spec.argv],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=err,
        env=dict(spec.env),
        cwd=spec.cwd,
        start_new_session=True,
        umask=0o077,
        **identity,
    )


def open_gate(process: subprocess.Popen[bytes]) -> None:
    """Let a launched process become what it was launched for."""
    if process.stdin:
        with suppress(BrokenPipeError), process.stdin as gate:
            gate.write(b"go\n")
        # `communicate` would flush a closed file.
        process.stdin = None


def open_log(path: Path) -> IO[bytes]:
    """The part's log, for appending; a long one is set aside first (one older is kept)."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, indented for showing under a message."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-count:])
