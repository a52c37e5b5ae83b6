"""Request and response bodies of jobs and their results."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from api.http.pagination import Page
from kdcore.protocol.events import Progress
from kdcore.schema.base import FrozenModel, Label, Name, Text
from kdcore.schema.job import JobLimits, JobSpec, ResolvedJob
from kdcore.schema.job_kinds import TrainKind
from kdcore.schema.report import Report
from store.tables.runs import JobState


class JobUpdate(FrozenModel):
    """The fields of a job that can change at any time. Limits apply from its next run on."""

    name: Name | None = None
    labels: Annotated[dict[Label, Text], Field(max_length=64)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    limits: JobLimits | None = None
    """Limits that are absent keep their value; `null` removes a limit."""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str | None
    retryable: bool
    run: int
    phase: str | None
    items: list[dict[str, str]] = Field(description="Invalid parts: the first 1,000")
    num_items: int = Field(description="Invalid parts in total")
    fix: list[dict[str, Any]] | None = Field(
        default=None, description="JSON Patch of the job as posted that corrects the error"
    )
    likely_class_order: list[int] | None = Field(
        default=None,
        description="The probable class of the refused teacher for each class of the data set",
    )


class JobUsage(BaseModel):
    """Resources that all runs of a job used together."""

    device_s: float


class JobOut(JobSpec):
    """A job as posted, with its state, progress and resolved settings."""

    id: str
    object: Literal["job"]
    # Wider than JobSpec, because another route creates jobs of the kind `warm`.
    kind: TrainKind
    state: JobState
    phase: str | None = Field(description="Part of the run; later versions may add phases")
    desired_state: Literal["run", "pause", "cancel"]
    progress: Progress | None
    eta_s: float | None
    queue_position: int | None = Field(
        description="Number of jobs that start earlier; null unless queued"
    )
    waiting_reason: str | None
    run: int | None = Field(description="Number of the latest run")
    resolved: ResolvedJob
    runtime: dict[str, Any] | None = Field(
        description="Device, precision, threads of the latest run"
    )
    last_event: int = Field(description="Id of the newest event; a stream can start after it")
    summary: dict[str, Any] = Field(description="Latest values of some metrics, and a short curve")
    usage: JobUsage
    error: JobError | None
    result: dict[str, Any] | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    links: dict[str, str]


class JobPage(Page[JobOut]):
    """Jobs that users posted."""


class MethodCompatibility(BaseModel):
    """Whether a method supports a pair of teacher and student."""

    name: str
    compatible: bool
    code: str | None
    reason: str | None
    """Why the method does not support the pair."""
    help: str | None
    """What would make the pair compatible."""


class DurationEstimate(BaseModel):
    """Seconds for which the job would use a device."""

    low: float
    likely: float
    high: float


class JobEstimate(BaseModel):
    """Work, sizes and duration that a job would have."""

    trainings: int = Field(
        description="Number of networks that are trained, over phases, seeds and baseline"
    )
    steps: int
    images: int
    student_macs_at_reference: int | None = Field(description="Null for a derived student")
    num_params: int | None = Field(description="Of the student, with the classes of the data set")
    student_size_bytes: int | None
    teacher_size_bytes: int | None = Field(description="Of all teachers together")
    seconds: DurationEstimate | None = Field(description="Null if no earlier job is comparable")
    basis: str = Field(description="How the duration was estimated, in words")


class JobValidation(BaseModel):
    """The result of a validation, which stores nothing."""

    resolved: ResolvedJob
    estimate: JobEstimate
    warnings: list[str]
    methods: list[MethodCompatibility]
    """Every method, and why it does not support the pair of the job."""


ValidateOnly = Annotated[bool, Query(description="Validate and resolve the job without storing it")]
VALIDATION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": JobValidation, "description": "`validate_only`: nothing is stored"}
}
"""The response of a creating route to ``validate_only``, for OpenAPI."""


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
        description="`done`, `stopped` (paused, cancelled, worker shut down), `lost`, `stalled`, "
        "`crashed`, `timed_out`, `refused`, `storage_unavailable` (the run got no inputs; the job "
        "is queued again), `inputs_unreadable` (an input is missing or damaged), `no_space`, "
        "`out_of_memory`, `non_finite`, `user_error`, `output_refused`; null while it runs; later "
        "versions may add values"
    )
    resumed_from_step: int | None = Field(
        description="Step of the checkpoint that the run resumed from; null without one"
    )


class RunPage(Page[RunOut]):
    """Runs, the first one first."""


class EventOut(BaseModel):
    """An event of a job. The ``id`` counts the events of the job from 1."""

    id: int
    object: Literal["event"]
    job: str
    run: int | None
    time: str
    type: str
    data: dict[str, Any]


class EventPage(Page[EventOut]):
    """Events in order."""


class MetricsOut(BaseModel):
    """Curves in columns: ``data[key] = {step: […], value: […]}``, with the name of the x axis."""

    data: dict[str, dict[str, list[float | None]]]
    num_points: dict[str, int] = Field(description="Number of points of each curve before thinning")


class CheckpointOut(BaseModel):
    """A checkpoint that a later run can resume from."""

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


class CheckpointPage(Page[CheckpointOut]):
    """Checkpoints, the newest first."""


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


class ArtifactPage(Page[ArtifactOut]):
    """Artifacts, the newest first."""


class ReportOut(Report):
    """The report of a job that has succeeded."""
