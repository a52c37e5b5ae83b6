"""Start one process so that it ends even if the supervisor dies at any moment; its log file."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, TypedDict

from stillhouse.local.supervise.process_spec import ProcessSpec

LOG_LIMIT_BYTES = 10_000_000
# The shell waits for a line before it runs the program. If the supervisor is killed before it has
# registered the process, the pipe closes without a line and the shell exits.
GATE = ("/bin/sh", "-c", 'read -r word && exec "$@" </dev/null', "sh")


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def spawn(spec: ProcessSpec, out: IO[bytes] | int, err: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a process that waits for `open_gate`, in a new session."""
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
    """Let a process of `spawn` run its program."""
    if process.stdin:
        with suppress(BrokenPipeError), process.stdin as gate:
            gate.write(b"go\n")
        # `communicate` fails on a closed file.
        process.stdin = None


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending. A log over 10 MB first becomes `NAME.log.1`."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def last_lines(path: Path, count: int = 15) -> str:
    """Return the last lines of a log, indented, to append to a message."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-count:])
