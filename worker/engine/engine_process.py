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
from kdcore.protocol.requests import EngineRequest, RunCommand
from kdcore.runtime import failpoints
from store.settings import settings
from worker.engine import download_policy, prewarm

_EVENT_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
# What a training needs of our environment. Database, broker and store addresses are not among it.
_PASSED_VARIABLES = (
    *("PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    failpoints.ENV_VARIABLE,
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
STDERR_TAIL_BYTES = 4000
MAX_STDERR_BYTES = 16 * 2**20
PREWARM_DELAY_S = 10.0  # the run that has begun comes first
EVENT_BATCH_SIZE = 200  # after an outage there are many: a transaction must stay a short one


class EngineProcess:
    """One ``python -m kdcore`` at work in a folder."""

    def __init__(self, command: str, request: EngineRequest, workdir: Path) -> None:
        request_file = workdir / "request.json"
        request_file.write_text(request.model_dump_json())
        self._events_file = workdir / "events.jsonl"
        self._events_file.unlink(missing_ok=True)
        self._stderr_file = workdir / "stderr.log"
        self._offset = 0
        self._stop_requested_at: float | None = None
        self._killed = False
        self._may_prewarm = command == "run"
        self._prewarm_at = math.inf
        self._stderr_file.unlink(missing_ok=True)
        self._stderr_file.touch()
        run_environment = _run_environment(workdir, request)
        prewarmed = None
        if self._may_prewarm:
            run_command = RunCommand(
                request=str(request_file),
                workdir=str(workdir),
                stderr=str(self._stderr_file),
                environment=run_environment,
            )
            prewarmed = prewarm.take_prewarmed(run_command)
        self.process = prewarmed or self._start(command, request_file, workdir, run_environment)

    def _start(
        self, command: str, request_file: Path, workdir: Path, run_environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        with self._stderr_file.open("ab") as stderr:
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
                env=base_environment() | run_environment,
                start_new_session=True,
            )

    @property
    def ended_by_us(self) -> bool:
        """Whether a signal of ours ended it: SIGKILL, or SIGTERM before it listened to that."""
        code = self.process.returncode
        terminated = self._stop_requested_at is not None and code == -signal.SIGTERM
        return terminated or (self._killed and code == -signal.SIGKILL)

    def read_events(self) -> tuple[list[AnyEvent], int]:
        """Complete lines since the last :meth:`accept`, and the offset that follows them."""
        if not self._events_file.exists():
            return [], self._offset
        with self._events_file.open("rb") as file:
            file.seek(self._offset)
            lines = list(itertools.islice(file, EVENT_BATCH_SIZE))
        complete_lines = b"".join(line for line in lines if line.endswith(b"\n"))
        return list(_parse_events(complete_lines)), self._offset + len(complete_lines)

    def mark_stored(self, offset: int) -> None:
        """Events up to this offset are stored: do not return them again."""
        self._offset = offset

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to stop: what is wanted since does not take that back."""
        return self._stop_requested_at is not None

    def request_stop(self) -> None:
        """SIGTERM once, so that it writes a checkpoint; SIGKILL when it takes too long."""
        if self._stop_requested_at is None:
            self._stop_requested_at = time.monotonic()
            self.process.terminate()
        elif time.monotonic() - self._stop_requested_at > settings().stop_grace_s:
            self.kill()

    def kill(self) -> None:
        """End the whole process group at once."""
        if self.process.poll() is None:
            self._killed = True
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def on_event(self, event: AnyEvent) -> None:
        """Know when the next one is to be put in reserve: loading torch takes a core for seconds.

        A training on the processor wants every core, and so does whoever measures speed for the
        report: only what is published has all of that behind it. With an accelerator there is room.
        """
        if isinstance(event, ArtifactEvent):
            self._prewarm_next()
        elif isinstance(event, PhaseEvent) and (event.runtime or {}).get("device", "cpu") != "cpu":
            self._prewarm_at = time.monotonic() + PREWARM_DELAY_S

    def _prewarm_next(self) -> None:
        if self._may_prewarm:
            self._may_prewarm = (
                False  # once: one that cannot even load would take its core for ever
            )
            prewarm_engine()

    def poll(self) -> None:
        """What is due from time to time: its standard error must not grow without end."""
        if time.monotonic() > self._prewarm_at:
            self._prewarm_next()
        if self._stderr_file.stat().st_size > MAX_STDERR_BYTES:
            os.truncate(self._stderr_file, 0)  # it is written by appending

    def stderr_tail(self) -> str:
        """The end of what it wrote to its standard error."""
        text = self._stderr_file.read_bytes()[-STDERR_TAIL_BYTES:]
        return text.decode("utf-8", "replace").replace("\0", "").strip()


def _parse_events(text: bytes) -> Iterator[AnyEvent]:
    for line in text.splitlines():
        yield _EVENT_ADAPTER.validate_python(_sanitize(json.loads(line)))


def _sanitize(value: Any) -> Any:
    """Without the characters that Postgres refuses: names in an upload may hold any."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_sanitize(item) for item in value]
    if isinstance(value, dict):
        return {_sanitize(name): _sanitize(each) for name, each in value.items()}
    return value


def base_environment() -> dict[str, str]:
    """What every engine is started with."""
    passed_variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    return passed_variables | {
        "HOME": str(settings().work_dir),
        # The engine of this very checkout; and nothing that lies in the working folder.
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def prewarm_engine() -> None:
    """Have an engine in reserve for the next training of this process."""
    prewarm.start_prewarmed(base_environment(), threads_per_training())


def threads_per_training() -> int:
    """Threads of one training: its share of the machine's cores."""
    cores = os.cpu_count() or 1
    return settings().engine_threads or max(1, cores // settings().training_slots)


def _run_environment(workdir: Path, request: EngineRequest) -> dict[str, str]:
    return download_policy.download_environment(request) | {
        "HOME": str(workdir),
        "TMPDIR": str(workdir),
    }
