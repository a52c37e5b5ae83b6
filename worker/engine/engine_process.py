"""The engine's process: started in a session of its own, with no secrets, and ended as a group."""

import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kdcore.protocol.events import AnyEvent, ArtifactEvent, PhaseEvent
from kdcore.protocol.requests import Errand, Request
from kdcore.runtime import failpoints
from store.settings import settings
from worker.engine import download_policy, prewarm

_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
# What a training needs of our environment. Database, broker and store addresses are not among it.
_KEPT = (
    *("PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    failpoints.VARIABLE,
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
STDERR_TAIL = 4000
STDERR_MOST = 16 * 2**20
RESERVE_AFTER_S = 10.0  # the run that has begun comes first
EVENTS_AT_ONCE = 200  # after an outage there are many: a transaction must stay a short one


class Engine:
    """One ``python -m kdcore`` at work in a folder."""

    def __init__(self, command: str, request: Request, workdir: Path) -> None:
        request_file = workdir / "request.json"
        request_file.write_text(request.model_dump_json())
        self._events = workdir / "events.jsonl"
        self._events.unlink(missing_ok=True)
        self._stderr = workdir / "stderr.log"
        self._offset = 0
        self._stop_asked_at: float | None = None
        self._killed = False
        self._trains = command == "run"
        self._reserve_at = math.inf
        self._stderr.unlink(missing_ok=True)
        self._stderr.touch()
        own = _own_environment(workdir, request)
        waiting = None
        if self._trains:
            errand = Errand(
                request=str(request_file),
                workdir=str(workdir),
                stderr=str(self._stderr),
                environment=own,
            )
            waiting = prewarm.take(errand)
        self.process = waiting or self._started(command, request_file, workdir, own)

    def _started(
        self, command: str, request_file: Path, workdir: Path, own: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        with self._stderr.open("ab") as stderr:
            # Its standard input is a pipe that only we hold: when we die, it reads the end of it.
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "kdcore", command, str(request_file)),
                    *("--workdir", str(workdir), "--supervised"),
                ],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                cwd=workdir,
                env=environment() | own,
                start_new_session=True,
            )

    @property
    def ended_by_us(self) -> bool:
        """Whether a signal of ours ended it: SIGKILL, or SIGTERM before it listened to that."""
        code = self.process.returncode
        asked = self._stop_asked_at is not None and code == -signal.SIGTERM
        return asked or (self._killed and code == -signal.SIGKILL)

    def new_events(self) -> tuple[list[AnyEvent], int]:
        """Complete lines since the last :meth:`accept`, and the offset that follows them."""
        if not self._events.exists():
            return [], self._offset
        with self._events.open("rb") as file:
            file.seek(self._offset)
            lines = list(itertools.islice(file, EVENTS_AT_ONCE))
        whole = b"".join(line for line in lines if line.endswith(b"\n"))
        return list(_parsed(whole)), self._offset + len(whole)

    def accept(self, offset: int) -> None:
        """Events up to this offset are stored: do not return them again."""
        self._offset = offset

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop: what is wanted since does not take that back."""
        return self._stop_asked_at is not None

    def ask_to_stop(self) -> None:
        """SIGTERM once, so that it writes a checkpoint; SIGKILL when it takes too long."""
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            self.process.terminate()
        elif time.monotonic() - self._stop_asked_at > settings().stop_grace_s:
            self.kill()

    def kill(self) -> None:
        """End the whole process group at once."""
        if self.process.poll() is None:
            self._killed = True
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def heed(self, event: AnyEvent) -> None:
        """Know when the next one is to be put in reserve: loading torch takes a core for seconds.

        A training on the processor wants every core, and so does whoever measures speed for the
        report: only what is published has all of that behind it. With an accelerator there is room.
        """
        if isinstance(event, ArtifactEvent):
            self._reserve()
        elif isinstance(event, PhaseEvent) and (event.chosen or {}).get("device", "cpu") != "cpu":
            self._reserve_at = time.monotonic() + RESERVE_AFTER_S

    def _reserve(self) -> None:
        if self._trains:
            self._trains = False  # once: one that cannot even load would take its core for ever
            reserve()

    def tend(self) -> None:
        """What is due from time to time: its standard error must not grow without end."""
        if time.monotonic() > self._reserve_at:
            self._reserve()
        if self._stderr.stat().st_size > STDERR_MOST:
            os.truncate(self._stderr, 0)  # it is written by appending

    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        text = self._stderr.read_bytes()[-STDERR_TAIL:]
        return text.decode("utf-8", "replace").replace("\0", "").strip()


def _parsed(text: bytes) -> Iterator[AnyEvent]:
    for line in text.splitlines():
        yield _EVENT.validate_python(_storable(json.loads(line)))


def _storable(value: Any) -> Any:
    """Without the characters that Postgres refuses: names in an upload may hold any."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(each) for name, each in value.items()}
    return value


def environment() -> dict[str, str]:
    """What every engine is started with."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "HOME": str(settings().work_dir),
        # The engine of this very checkout; and nothing that lies in the working folder.
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def reserve() -> None:
    """Have an engine in reserve for the next training of this process."""
    prewarm.prepare(environment(), threads())


def threads() -> int:
    """Threads of one training: its share of the machine's cores."""
    cores = os.cpu_count() or 1
    return settings().engine_threads or max(1, cores // settings().training_slots)


def _own_environment(workdir: Path, request: Request) -> dict[str, str]:
    return download_policy.environment(request) | {"HOME": str(workdir), "TMPDIR": str(workdir)}
