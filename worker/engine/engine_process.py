"""EngineProcess: one ``python -m kdcore`` in a session of its own, without secrets.

EnginePool starts them, and keeps one with torch loaded for the next training. Loading torch takes
seconds of a core, so the pool also decides when the next engine may load. Each process of a worker
has a pool of its own. A prewarmed engine runs one job, and ends by itself when the process that
started it ends.
"""

import itertools
import json
import math
import os
import re
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter

from kdcore.protocol.events import AnyEvent, ArtifactEvent, PhaseEvent
from kdcore.protocol.requests import HEARTBEAT_FILE, EngineRequest, RunCommand
from kdcore.runtime import failpoints
from store.settings import settings
from worker.engine import download_policy

_EVENT_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
# Addresses of database, broker and object store are not passed on: an engine needs none.
_PASSED_VARIABLES = (
    *("PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    failpoints.ENV_VARIABLE,
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
STDERR_TAIL_BYTES = 4000
MAX_STDERR_BYTES = 16 * 2**20
EVENT_BATCH_SIZE = 200  # after an outage many events wait: a transaction must stay short


class EngineProcess:
    """An engine process in a work folder: request, events and exit.

    ``start`` starts a process; ``attach`` takes a prewarmed one that has received the request.
    """

    process: "subprocess.Popen[bytes]"

    def __init__(
        self,
        command: str,
        request: EngineRequest,
        workdir: Path,
        max_stderr_bytes: int = MAX_STDERR_BYTES,
    ) -> None:
        self._command = command
        self._workdir = workdir
        self._max_stderr_bytes = max_stderr_bytes
        self.request_file = workdir / "request.json"
        self.request_file.write_text(request.model_dump_json(), encoding="utf-8")
        self._events_file = workdir / "events.jsonl"
        self._events_file.unlink(missing_ok=True)
        self.stderr_file = workdir / "stderr.log"
        self.stderr_file.unlink(missing_ok=True)
        self.stderr_file.touch()
        self._offset = 0
        self._stop_requested_at: float | None = None
        self._killed = False

    def start(self, environment: dict[str, str], descriptors: Sequence[int] = ()) -> None:
        """Start a new process with exactly these variables and open descriptors."""
        with self.stderr_file.open("ab") as stderr:
            # Only this process holds the other end of its standard input: when this process ends,
            # the engine reads the end of its input and ends, too.
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kdcore", self._command, str(self.request_file)),
                    *("--workdir", str(self._workdir), "--supervised"),
                ],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                cwd=self._workdir,
                env=environment,
                pass_fds=descriptors,
                start_new_session=True,
            )

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over a prewarmed process that has received this engine's request."""
        self.process = process

    @property
    def ended_by_us(self) -> bool:
        """Whether our signal ended it: SIGKILL, or SIGTERM before the engine handled that."""
        code = self.process.returncode
        terminated = self._stop_requested_at is not None and code == -signal.SIGTERM
        return terminated or (self._killed and code == -signal.SIGKILL)

    def read_events(self) -> tuple[list[AnyEvent], int]:
        """Complete lines since the last :meth:`mark_stored`, and the offset after them."""
        if not self._events_file.exists():
            return [], self._offset
        with self._events_file.open("rb") as file:
            file.seek(self._offset)
            lines = list(itertools.islice(file, EVENT_BATCH_SIZE))
        complete_lines = b"".join(line for line in lines if line.endswith(b"\n"))
        return list(_parse_events(complete_lines)), self._offset + len(complete_lines)

    def mark_stored(self, offset: int) -> None:
        """Do not return events up to this offset again: they are stored."""
        self._offset = offset

    @property
    def stop_requested(self) -> bool:
        """Whether :meth:`request_stop` was called; a stop cannot be taken back."""
        return self._stop_requested_at is not None

    def request_stop(self) -> None:
        """Send SIGTERM once, so that a checkpoint is written; SIGKILL after the grace time."""
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

    def truncate_stderr(self) -> None:
        """Empty the file of standard error when it is too large; the engine appends to it."""
        if self.stderr_file.stat().st_size > self._max_stderr_bytes:
            os.truncate(self.stderr_file, 0)

    def stderr_tail(self) -> str:
        """The last 4000 bytes of standard error, as text that Postgres accepts."""
        text = self.stderr_file.read_bytes()[-STDERR_TAIL_BYTES:]
        return text.decode("utf-8", "replace").replace("\0", "").strip()


def _parse_events(text: bytes) -> Iterator[AnyEvent]:
    for line in text.splitlines():
        yield _EVENT_ADAPTER.validate_python(_sanitize(json.loads(line)))


def _sanitize(value: Any) -> Any:
    """Replace the characters that Postgres refuses: names in an upload may hold any."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_sanitize(item) for item in value]
    if isinstance(value, dict):
        return {_sanitize(name): _sanitize(item) for name, item in value.items()}
    return value


def base_environment() -> dict[str, str]:
    """The variables of every engine."""
    passed_variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    return passed_variables | {
        "HOME": str(settings().work_dir),
        # The engine of this checkout, and no module that lies in the work folder.
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        # Files and paths are UTF-8 in every locale.
        "PYTHONUTF8": "1",
        # Packages of `pip install --user` lie in the user's home, which the engine does not have.
        "PYTHONUSERBASE": site.getuserbase(),
    }


def run_environment(workdir: Path, request: EngineRequest) -> dict[str, str]:
    """The variables of one run, beside those of every engine."""
    return download_policy.download_environment(request) | {
        "HOME": str(workdir),
        "TMPDIR": str(workdir),
    }


def threads_per_training() -> int:
    """Threads of one training: its share of the machine's cores."""
    cores = os.cpu_count() or 1
    return settings().engine_threads or max(1, cores // settings().training_slots)


PAUSE_FACTOR = 20
"""Times the longest pause of the run so far: the end of an epoch takes longer than a step."""


class StallDetector:
    """Compares the time since the last sign of life with the earlier pauses of the same run."""

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files = (workdir / HEARTBEAT_FILE, workdir / "events.jsonl")
        self._last_signs = self._signs()
        self._since = clock()
        self._longest_s = 0.0

    def update(self) -> None:
        """Look at the engine's files for signs of life since the last call."""
        signs = self._signs()
        if signs == self._last_signs:
            return
        # The files' times count, because this process may have been busy with an upload. The first
        # sign is left out: the time to load the libraries says nothing about pauses at work.
        if self._last_signs[0]:
            self._longest_s = max(self._longest_s, (max(signs) - max(self._last_signs)) / 1e9)
        self._last_signs, self._since = signs, self._clock()

    @property
    def pause_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._since

    @property
    def max_pause_s(self) -> float:
        """Seconds without a sign of life after which the engine counts as stalled."""
        return max(settings().stall_s, PAUSE_FACTOR * self._longest_s)

    def _signs(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in self._files)


log = structlog.get_logger()
PREWARM_DELAY_S = 10.0
"""After the start of a training on an accelerator: loading its own data comes first."""
TRAIN_COMMAND = "run"


class EnginePool:
    """The engines of one process of a worker: one at work, one prewarmed."""

    def __init__(self, prewarm_delay_s: float = PREWARM_DELAY_S) -> None:
        self._prewarm_delay_s = prewarm_delay_s
        self._lock = threading.Lock()  # slots of tests are threads
        self._prewarmed: subprocess.Popen[bytes] | None = None
        self._may_prewarm = False
        self._prewarm_at = math.inf

    @property
    def prewarmed_pid(self) -> int | None:
        """Process id of the engine that waits; None if none does."""
        return None if self._prewarmed is None else self._prewarmed.pid

    def start(
        self,
        command: str,
        request: EngineRequest,
        workdir: Path,
        descriptors: Sequence[int] = (),
    ) -> EngineProcess:
        """Start an engine on a request in its work folder; a training takes the prewarmed one.

        An engine that is not a training inherits ``descriptors``.
        """
        self._may_prewarm = command == TRAIN_COMMAND
        self._prewarm_at = math.inf
        engine = EngineProcess(command, request, workdir)
        environment = run_environment(workdir, request)
        if command == TRAIN_COMMAND:
            run_command = RunCommand(
                request=str(engine.request_file),
                workdir=str(workdir),
                stderr=str(engine.stderr_file),
                environment=environment,
            )
            if (process := self._take_prewarmed(run_command)) is not None:
                engine.attach(process)
                return engine
        engine.start(base_environment() | environment, descriptors)
        return engine

    def on_event(self, event: AnyEvent) -> None:
        """Prewarm the next engine when the present one leaves room for that.

        A training on the CPU uses every core, and so does the measurement of latency for the
        report: only the publication of artifacts comes after both. With an accelerator there is
        room while it trains.
        """
        if isinstance(event, ArtifactEvent):
            self._prewarm_once()
        elif isinstance(event, PhaseEvent) and (event.runtime or {}).get("device", "cpu") != "cpu":
            self._prewarm_at = time.monotonic() + self._prewarm_delay_s

    def poll(self) -> None:
        """Start the next prewarmed engine if its time has come; called while an engine runs."""
        if time.monotonic() > self._prewarm_at:
            self._prewarm_once()

    def prewarm(self) -> None:
        """Start an engine that loads torch and waits, unless one waits already."""
        with self._lock:
            waits = self._prewarmed is not None and self._prewarmed.poll() is None
            if waits or not settings().prewarm_engine:
                return
            if self._prewarmed is not None:
                log.warning("prewarmed_engine_ended", exit=self._prewarmed.returncode)
            self._discard()
            try:
                self._prewarmed = _start_prewarmed()
            except OSError as error:  # no space or memory: the next engine starts when it is needed
                log.warning("prewarm_failed", error=str(error))

    def close(self) -> None:
        """End the prewarmed engine."""
        with self._lock:
            self._discard()

    def _prewarm_once(self) -> None:
        # Once per job: an engine that fails to load would otherwise be started again and again.
        if self._may_prewarm:
            self._may_prewarm = False
            self.prewarm()

    def _take_prewarmed(self, run_command: RunCommand) -> "subprocess.Popen[bytes] | None":
        """Send the request to the engine that waits. Returns None if there is none."""
        with self._lock:
            process, self._prewarmed = self._prewarmed, None
        if process is None or process.stdin is None:
            return None
        try:
            process.stdin.write(run_command.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        except OSError:
            log.warning("prewarmed_engine_ended", exit=process.poll())
            _kill(process)
            return None
        return process

    def _discard(self) -> None:
        if self._prewarmed is not None:
            _kill(self._prewarmed)
        self._prewarmed = None


def _start_prewarmed() -> "subprocess.Popen[bytes]":
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "--prewarm", str(threads_per_training())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=settings().work_dir,
        env=base_environment(),
        bufsize=0,  # a line that could not be sent must not be sent again by closing
        start_new_session=True,
    )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
