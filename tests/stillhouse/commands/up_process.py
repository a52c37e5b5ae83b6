"""`Up`: a running `stillhouse up` whose output tests read line by line."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from stillhouse.local.supervise.proc import process_tree

COMMAND = [sys.executable, "-m", "stillhouse.command_line", "up"]


class Up:
    """A running `stillhouse up` whose output is read line by line."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        before: Callable[[], None] | None = None,
        prefix: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, *COMMAND, "--data-dir", str(folder), *(options or ("--port", "0"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=env,
            cwd=cwd,
            preexec_fn=before,
            # A group of its own, as in a shell: the test sends Ctrl-C to the group.
            start_new_session=True,
        )

    def line(self, start: str) -> str:
        """Read output up to a line that begins with `start`; return the rest of that line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if line.strip().startswith(start):
                return line.strip().removeprefix(start).strip()
        raise AssertionError(f"no line {start!r} in:\n{self.output}")

    @property
    def output(self) -> str:
        """What was read so far."""
        return "".join(self.lines)

    def members(self) -> dict[int, str]:
        """Return the processes of this stack, each with its identity."""
        return process_tree([self.process.pid])

    def end(self) -> str:
        """Wait for the exit and return all output; fails after two minutes."""
        rest, _ = self.process.communicate(timeout=120)
        self.lines.append(rest)
        return self.output


def end_all(started: Iterable[Up]) -> None:
    """Kill what still runs."""
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
        if up.process.stdout:
            up.process.stdout.close()
        up.process.wait()
