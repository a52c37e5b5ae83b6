"""EnginePool: starts engines, and keeps one process with torch loaded for the next training.

Loading torch takes seconds of a core, so the pool also decides when the next engine may load. Each
process of a worker has a pool of its own. A prewarmed engine runs one job, and ends by itself when
the process that started it ends.
"""

import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import structlog

from kdcore.protocol.events import AnyEvent, ArtifactEvent, PhaseEvent
from kdcore.protocol.requests import EngineRequest, RunCommand
from store.settings import settings
from worker.engine.engine_process import (
    EngineProcess,
    base_environment,
    run_environment,
    threads_per_training,
)

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

    def start(self, command: str, request: EngineRequest, workdir: Path) -> EngineProcess:
        """Start an engine on a request in its work folder; a training takes the prewarmed one."""
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
        engine.start(base_environment() | environment)
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
