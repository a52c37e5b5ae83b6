"""Jobs, runs, events, metrics, checkpoints, artifacts."""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, column_property, mapped_column

from store.tables.base import Base, BigInt, CreatedAt, Id, Json, ProjectId

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
LIVE_STATES = ("starting", "running", "pausing", "cancelling")
"""States in which a run may hold the job's lease."""


class Run(Base):
    """One attempt at a job."""

    __tablename__ = "runs"
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    fence: Mapped[BigInt]
    worker: Mapped[str]
    device: Mapped[str | None]
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]
    exit: Mapped[str | None]
    resumed_from_step: Mapped[BigInt | None]
    runtime: Mapped[Json | None]
    """Environment of the engine: device, precision, threads, versions; null before it starts."""
    engine_seq: Mapped[BigInt] = mapped_column(default=0, server_default="0")
    """Number of the newest stored event of its engine."""


class Job(Base):
    """A job of a user, or one that prepares an asset. Only store/jobs sets its state."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"state IN {get_args(JobState)}", "state"),
        CheckConstraint("desired_state IN ('run', 'pause', 'cancel')", "desired_state"),
        CheckConstraint("queue IN ('train', 'prepare')", "queue"),
        Index(None, "project_id", "created_at", "id", postgresql_where=text("queue = 'train'")),
        Index(
            "ix_jobs_queue",
            "queue",
            "project_id",
            text("priority DESC"),
            "created_at",
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_live",
            "queue",
            "project_id",
            postgresql_where=text("state IN ('starting', 'running', 'pausing', 'cancelling')"),
        ),
        Index(
            "ix_jobs_leases",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
        Index(None, "dataset_id"),
        Index(None, "model_id"),
    )
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[ProjectId]
    kind: Mapped[str]
    queue: Mapped[str]
    name: Mapped[str]
    labels: Mapped[Json]
    priority: Mapped[int]
    spec: Mapped[Json]
    resolved: Mapped[Json]
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    """The model that a verification or conversion prepares."""
    model_ids: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    """The teachers, and the student's initial weights."""
    architecture: Mapped[str | None]
    methods: Mapped[list[str]] = mapped_column(ARRAY(TEXT))

    state: Mapped[str]
    desired_state: Mapped[str] = mapped_column(default="run")
    phase: Mapped[str | None]
    progress: Mapped[Json | None]
    eta_s: Mapped[float | None]
    summary: Mapped[Json]
    """Latest value of a few metrics, and a short curve, for lists."""
    error: Mapped[Json | None]
    result: Mapped[Json | None]

    fence: Mapped[BigInt] = mapped_column(default=0)
    """Raised by every claim; a write with an older fence is rejected."""
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    num_runs: Mapped[int] = mapped_column(default=0)
    lost_runs: Mapped[int] = mapped_column(default=0)
    """Lost runs since the last new checkpoint."""
    crashes: Mapped[int] = mapped_column(default=0)
    device_s: Mapped[float] = mapped_column(default=0.0)
    event_seq: Mapped[BigInt] = mapped_column(default=0)
    rev: Mapped[BigInt] = mapped_column(default=1)
    created_at: Mapped[CreatedAt]
    queued_at: Mapped[CreatedAt]
    not_before: Mapped[datetime | None]
    """No worker claims the job before this time: the object store was unavailable."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    runtime: Mapped[Json | None] = column_property(
        select(Run.runtime)
        .where(Run.job_id == id, Run.runtime.is_not(None))  # noqa: A003 - this class's column
        .order_by(Run.number.desc())
        .limit(1)
        .correlate_except(Run)
        .scalar_subquery(),
        deferred=True,
    )
    """Runtime of the latest run that has one; queries of many jobs load it with ``undefer``."""


class JobEvent(Base):
    """An event of a job: the durable log behind the stream."""

    __tablename__ = "events"
    # For the stream of changed jobs of a project.
    __table_args__ = (Index(None, "project_id", "time"),)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[BigInt] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    run: Mapped[int | None]
    time: Mapped[CreatedAt]
    type: Mapped[str]
    data: Mapped[Json]


class Metric(Base):
    """One value of one curve. A resumed run overwrites the steps that it repeats."""

    __tablename__ = "metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[BigInt] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    epoch: Mapped[float]
    wall_s: Mapped[float]
    value: Mapped[float | None]


class _StoredFile:
    """An object that a run stored under its fence."""

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    object_key: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str]
    size_bytes: Mapped[BigInt]
    fence: Mapped[BigInt]
    created_at: Mapped[CreatedAt]


class Checkpoint(_StoredFile, Base):
    """A state of training from which a later run can continue."""

    __tablename__ = "checkpoints"
    step: Mapped[BigInt]
    epoch: Mapped[float]
    metrics: Mapped[Json]


class Artifact(_StoredFile, Base):
    """A file of a finished job."""

    __tablename__ = "artifacts"
    format: Mapped[str]
    media_type: Mapped[str]
