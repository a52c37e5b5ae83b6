"""The events of the engine: one JSON object in a line, ``{seq, time, type, …}``.

A file that an event names is in the working directory, complete before the event is written.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from kdcore.schema.asset_info import IngestSummary
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


NonFinite = Literal["nan", "infinity", "-infinity"]


class ErrorDetail(FrozenModel):
    """One invalid part that an error names."""

    name: str
    detail: str


class Progress(FrozenModel):
    """Progress of the run over all of its phases."""

    epoch: int
    epochs: int
    step: int
    steps: int
    fraction: float


class EngineEvent(FrozenModel):
    """Fields of every event."""

    seq: int
    time: str
    """RFC 3339, UTC."""


class PhaseEvent(EngineEvent):
    """The run started a phase. The first phase of a run has the engine's choices."""

    type: Literal["phase"] = "phase"
    phase: str
    runtime: dict[str, Any] | None = None
    """Device, precision, threads, versions; after a resume resumed_from_step, non_exact."""


class MetricsEvent(EngineEvent):
    """Values of metrics at one step."""

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: float
    wall_s: float
    values: dict[str, float | None]
    """Null for NaN and infinities, which JSON does not have."""
    non_finite: dict[str, NonFinite] = Field(default_factory=dict)
    """What a null of ``values`` was."""
    phase_epochs: int | None = None
    """Epochs of the phase, whose present epoch is ``epoch``."""
    progress: Progress | None = None
    eta_s: float | None = None


class LogEvent(EngineEvent):
    """A message for people."""

    type: Literal["log"] = "log"
    level: LogLevel
    message: str


class CheckpointEvent(EngineEvent):
    """A checkpoint from which a later run can continue."""

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
    """A file has a teacher's outputs for one view of the training images."""

    type: Literal["teacher_cache"] = "teacher_cache"
    key: Sha256
    """Digest of everything that determines the outputs."""
    name: str
    """Name of the file in the request's ``teacher_cache_dir``."""
    teacher_index: int
    """Index of the teacher in the job."""
    seed: int
    """Seed that drew the view."""
    view: int
    num_samples: int
    sha256: Sha256
    size_bytes: int
    fill_s: float
    """Seconds that computing the outputs took, in this or an earlier run."""
    hit: bool
    """Whether the file existed before this run."""


class ReportEvent(EngineEvent):
    """The result: a Report, a DatasetInfo or a ModelInfo, by command."""

    type: Literal["report"] = "report"
    report: dict[str, Any]


class IngestSummaryEvent(EngineEvent):
    """What ingestion read of an upload; written before the report, or before the error."""

    type: Literal["ingest_summary"] = "ingest_summary"
    summary: IngestSummary


class ErrorEvent(EngineEvent):
    """The reason why the run ends without a result."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    hint: str | None = None
    items: tuple[ErrorDetail, ...] = ()
    """The first 1,000 invalid parts."""
    num_items: int = 0
    """Invalid parts in total."""
    fix: tuple[dict[str, Any], ...] | None = None
    """A JSON Patch of the job that corrects it."""
    likely_class_order: tuple[int, ...] | None = None
    """The probable class of the teacher for each class of the data set, where that is the error."""
    fix_fields: tuple[str, ...] = ()
    """Fields of the request that could mend the refusal of an upload, whose bytes then stay."""


class DoneEvent(EngineEvent):
    """The last event of a run that reached its end."""

    type: Literal["done"] = "done"


AnyEvent = Annotated[
    PhaseEvent
    | MetricsEvent
    | LogEvent
    | CheckpointEvent
    | ArtifactEvent
    | TeacherCacheEvent
    | ReportEvent
    | IngestSummaryEvent
    | ErrorEvent
    | DoneEvent,
    Field(discriminator="type"),
]
