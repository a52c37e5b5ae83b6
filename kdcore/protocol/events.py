"""What the engine's process says while it works: one JSON object a line, ``{seq, time, type, …}``.

Files that an event names lie under the workdir and appear by atomic rename before the event.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from kdcore.schema.base import FrozenModel, Sha256

ErrorCode = Literal[
    "job_invalid",
    "teacher_load_failed",
    "checkpoint_invalid",
    "dataset_invalid",
    "student_incompatible",
    "no_onnx",
    "out_of_memory",
    "non_finite_loss",
    "worker_lost",
    "deadline_exceeded",
    "budget_exhausted",
    "storage_unavailable",
    "internal",
]


LogLevel = Literal["debug", "info", "warning", "error"]


class ErrorDetail(FrozenModel):
    """One bad thing among those that an error names."""

    name: str
    detail: str


class Progress(FrozenModel):
    """How far the whole run is, every phase counted."""

    epoch: int
    epochs: int
    step: int
    steps: int
    fraction: float


class EngineEvent(FrozenModel):
    """What every line says."""

    seq: int
    time: str
    """RFC 3339, UTC."""


class PhaseEvent(EngineEvent):
    """The run entered a phase. The first one of a run carries what the engine chose."""

    type: Literal["phase"] = "phase"
    phase: str
    runtime: dict[str, Any] | None = None
    """device, precision, threads, versions; and resumed_from_step, non_exact after a resume."""


class MetricsEvent(EngineEvent):
    """Values of the fixed vocabulary at one step."""

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: float
    wall_s: float
    values: dict[str, float | None]
    progress: Progress | None = None
    eta_s: float | None = None


class LogEvent(EngineEvent):
    """A sentence for people."""

    type: Literal["log"] = "log"
    level: LogLevel
    message: str


class CheckpointEvent(EngineEvent):
    """A checkpoint that a later run can go on from."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    sha256: Sha256
    size_bytes: int
    step: int
    epoch: float
    metrics: dict[str, float]


class ArtifactEvent(EngineEvent):
    """A finished file for the user."""

    type: Literal["artifact"] = "artifact"
    path: str
    name: str
    format: str
    media_type: str
    sha256: Sha256
    size_bytes: int


class TeacherCacheEvent(EngineEvent):
    """A teacher's answers about one view of the training images are at hand, in a file."""

    type: Literal["teacher_cache"] = "teacher_cache"
    key: Sha256
    """Of all that decides them."""
    name: str
    """Of the file in the folder of the request."""
    teacher_index: int
    """Its place among the job's teachers."""
    seed: int
    """That drew the view."""
    view: int
    num_samples: int
    sha256: Sha256
    size_bytes: int
    fill_s: float
    """That asking took, whoever asked."""
    hit: bool
    """They were there already: nobody was asked now."""


class ReportEvent(EngineEvent):
    """The outcome: a Report, a DatasetInfo or a ModelInfo, by command."""

    type: Literal["report"] = "report"
    report: dict[str, Any]


class ErrorEvent(EngineEvent):
    """Why the run ends without an outcome."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    hint: str | None = None
    items: tuple[ErrorDetail, ...] = ()


class DoneEvent(EngineEvent):
    """The last line of a run that reached its end."""

    type: Literal["done"] = "done"


AnyEvent = Annotated[
    PhaseEvent
    | MetricsEvent
    | LogEvent
    | CheckpointEvent
    | ArtifactEvent
    | TeacherCacheEvent
    | ReportEvent
    | ErrorEvent
    | DoneEvent,
    Field(discriminator="type"),
]
