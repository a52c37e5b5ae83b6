"""A job and its parts as answers carry them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Page
from kdcore.protocol.events import Progress
from kdcore.schema.base import FrozenModel, Label, Name, Text
from kdcore.schema.job import JobLimits, JobSpec, ResolvedJob
from kdcore.schema.job_kinds import TrainKind
from kdcore.schema.report import Report

JobState = Literal[
    "queued",
    "starting",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
]


class JobUpdate(FrozenModel):
    """What may be changed of a job at any time; limits hold from its next run on."""

    name: Name | None = None
    labels: Annotated[dict[Label, Text], Field(max_length=64)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    limits: JobLimits | None = None
    """Those that are given; the others stay. `null` takes one away."""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str | None
    retryable: bool
    run: int
    phase: str | None
    items: list[dict[str, str]]


class JobUsage(BaseModel):
    """What a job has used, all its runs together."""

    device_s: float


class JobOut(JobSpec):
    """The job as posted, how far it is, and what it was resolved to."""

    id: str
    object: Literal["job"]
    # Wider than what may be posted: a job of the kind `warm` is made by another route.
    kind: TrainKind
    state: JobState
    phase: str | None = Field(description="Detail inside running; new ones may come")
    desired_state: Literal["run", "pause", "cancel"]
    progress: Progress | None
    eta_s: float | None
    queue_position: int | None = Field(description="Jobs that start before; null unless queued")
    waiting_reason: str | None
    run: int | None = Field(description="Number of the latest attempt")
    resolved: ResolvedJob
    runtime: dict[str, Any] | None = Field(description="Device, precision, threads of the last run")
    last_event: int = Field(description="Number of its newest event; a stream may begin there")
    summary: dict[str, Any] = Field(description="Latest value of a few metrics, and a short curve")
    usage: JobUsage
    error: JobError | None
    result: dict[str, Any] | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    links: dict[str, str]


class JobPage(Page):
    """Jobs that users posted."""

    data: list[JobOut]


class MethodCompatibility(BaseModel):
    """Whether a method can be used for a pair of teacher and student."""

    name: str
    compatible: bool
    code: str | None
    reason: str | None
    """What forbids it."""
    help: str | None
    """What would be right."""


class DurationEstimate(BaseModel):
    """How long the job would hold a device."""

    low: float
    likely: float
    high: float


class JobEstimate(BaseModel):
    """What the job would amount to."""

    trainings: int = Field(description="Networks that are trained: schemes, seeds, baseline")
    steps: int
    images: int
    student_macs_at_reference: int | None = Field(description="Null for a derived student")
    num_params: int | None = Field(description="The student's, with this data set's classes")
    student_size_bytes: int | None
    teacher_size_bytes: int | None = Field(description="All teachers together")
    seconds: DurationEstimate | None = Field(description="Null where no earlier job says how fast")
    basis: str = Field(description="What the seconds rest on, in words")


class JobValidation(BaseModel):
    """What a job would be: nothing is stored."""

    resolved: ResolvedJob
    estimate: JobEstimate
    warnings: list[str]
    methods: list[MethodCompatibility]
    """Which methods fit this pair, and why the others do not."""


class RunOut(BaseModel):
    """One attempt at a job."""

    id: str
    object: Literal["run"]
    number: int
    worker: str
    device: str | None
    started_at: str
    ended_at: str | None
    exit: str | None = Field(
        description="`done`, `stopped` (paused, cancelled, drained), `lost`, `stalled`, `crashed`, "
        "`storage_away`, or why the job failed; null while it runs; new ones may come"
    )
    resumed_from_step: int | None = Field(
        description="Of the checkpoint that it went on from; null where it began anew"
    )


class RunPage(Page):
    """Runs, the first one first."""

    data: list[RunOut]


class EventOut(BaseModel):
    """Something that happened; ``id`` grows by one with each event of the job."""

    id: int
    object: Literal["event"]
    job: str
    run: int | None
    time: str
    type: str
    data: dict[str, Any]


class EventPage(Page):
    """Events in order."""

    data: list[EventOut]


class MetricsOut(BaseModel):
    """Columns: ``data[key] = {step: […], value: […]}``, or epoch or wall_s instead of step."""

    data: dict[str, dict[str, list[float | None]]]
    num_points: dict[str, int] = Field(description="Points of each curve before it was thinned")


class CheckpointOut(BaseModel):
    """A place from which a later run can go on."""

    id: str
    object: Literal["checkpoint"]
    name: str
    step: int
    epoch: float
    metrics: dict[str, float]
    size_bytes: int
    sha256: str
    created_at: str
    links: dict[str, str]


class CheckpointPage(Page):
    """Checkpoints, the newest first."""

    data: list[CheckpointOut]


class ArtifactOut(BaseModel):
    """A finished file."""

    id: str
    object: Literal["artifact"]
    job: str
    name: str
    format: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: str
    links: dict[str, str]


class ArtifactPage(Page):
    """Artifacts, the newest first."""

    data: list[ArtifactOut]


class ReportOut(Report):
    """The outcome of a job."""
