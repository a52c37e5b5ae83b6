"""RunResult: how a run ended, for the one table in worker/finalize.py that says what follows."""

import enum
from dataclasses import dataclass, field
from typing import Any

from kdcore.protocol.events import AnyEvent, ArtifactEvent, ErrorEvent, ReportEvent
from kdcore.protocol.requests import ExitCode


class RunEnd(enum.StrEnum):
    """The ways in which a run can end. Only a lost lease is not among them: it raises.

    Where a way has one name for users, its value is that name: the ``exit`` of the run.
    """

    DONE = enum.auto()
    STOPPED = enum.auto()
    """By a user's action or a shutdown, before the engine started or while it ran."""
    ENGINE_ERROR = enum.auto()
    """The engine reported an error and exited with the code that belongs to it."""
    NO_SPACE = enum.auto()
    KILLED = enum.auto()
    """By a signal that this worker did not send."""
    STALLED = enum.auto()
    CRASHED = enum.auto()
    TIMED_OUT = enum.auto()
    REFUSED = enum.auto()
    """A setting of all workers forbids the job, so a retry would not help."""
    INPUTS_UNREADABLE = enum.auto()
    """The object store or the database has an input no more, or has other bytes."""
    STORAGE_UNAVAILABLE = enum.auto()
    """The object store did not respond when the inputs were fetched."""
    OUTPUT_REFUSED = enum.auto()
    """The engine named a file outside its work folder."""


@dataclass
class EngineOutputs:
    """Events that count only when the run is over; a later event replaces an earlier one."""

    artifacts: list[ArtifactEvent] = field(default_factory=list)
    report: dict[str, Any] | None = None
    error: ErrorEvent | None = None

    def record(self, event: AnyEvent) -> None:
        """Keep artifacts, report and error; ignore other events."""
        if isinstance(event, ArtifactEvent):
            self.artifacts.append(event)
        elif isinstance(event, ReportEvent):
            self.report = event.report
        elif isinstance(event, ErrorEvent):
            self.error = event


@dataclass(frozen=True)
class RunResult:
    """The end of one run, with what its handler needs."""

    end: RunEnd
    outputs: EngineOutputs = field(default_factory=EngineOutputs)
    message: str = ""
    """The cause in words, for the job's error or log."""
    exit_code: int | None = None
    """Of the engine; negative for a signal; None if no engine ran to its end."""
    error: dict[str, Any] | None = None
    """The error to store for a refused job, or the one that the engine reported."""


_ERROR_EXITS = (ExitCode.USER_ERROR, ExitCode.OUT_OF_MEMORY, ExitCode.NON_FINITE)


def engine_result(
    exit_code: int, outputs: EngineOutputs, *, ended_by_us: bool, stderr_tail: str
) -> RunResult:
    """Classify the exit of an engine whose events are all in ``outputs``."""
    if exit_code == ExitCode.DONE and outputs.report is not None:
        return RunResult(RunEnd.DONE, outputs, exit_code=exit_code)
    if exit_code == ExitCode.STOPPED or ended_by_us:
        return RunResult(RunEnd.STOPPED, outputs, exit_code=exit_code)
    if exit_code in _ERROR_EXITS and outputs.error:
        fields = {"code", "message", "hint", "items", "num_items", "fix", "likely_class_order"}
        error = outputs.error.model_dump(include=fields, mode="json")
        if outputs.error.fix_fields:
            error["fix_fields"] = list(outputs.error.fix_fields)
        return RunResult(RunEnd.ENGINE_ERROR, outputs, exit_code=exit_code, error=error)
    if exit_code == ExitCode.NO_SPACE:
        return RunResult(RunEnd.NO_SPACE, outputs, exit_code=exit_code)
    if exit_code < 0:
        message = f"the engine was killed by signal {-exit_code}"
        return RunResult(RunEnd.KILLED, outputs, message, exit_code)
    return RunResult(RunEnd.CRASHED, outputs, stderr_tail, exit_code)
