"""The engine's events into rows: a batch is one transaction, fenced, or it is nothing."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from kdcore.protocol.events import (
    AnyEvent,
    ArtifactEvent,
    CheckpointEvent,
    ErrorEvent,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ReportEvent,
    TeacherCacheEvent,
)
from kdcore.runtime.failpoints import failpoint
from store import event_log, jobs, metric_series, object_store
from store.database import transaction
from store.tables import Checkpoint, Job
from worker.files import artifact_upload, teacher_cache


@dataclass
class RunResult:
    """What a run has said of its end so far; published only when the run is over."""

    artifacts: list[ArtifactEvent] = field(default_factory=list)
    report: dict[str, Any] | None = None
    error: ErrorEvent | None = None

    def record(self, event: AnyEvent) -> None:
        """Keep what belongs to the end."""
        if isinstance(event, ArtifactEvent):
            self.artifacts.append(event)
        elif isinstance(event, ReportEvent):
            self.report = event.report
        elif isinstance(event, ErrorEvent):
            self.error = event


def store_events(
    job: Job, batch: list[AnyEvent], workdir: Path, *, upload_files: bool = True
) -> None:
    """Store a batch of events; raises FencedOut, and stores nothing, if the job has moved on.

    Without ``checkpoints`` all files are left behind: the object store has been away for long.
    """
    # Only the newest checkpoint of a batch is worth its upload: it replaces the others.
    newest = next((e for e in reversed(batch) if isinstance(e, CheckpointEvent)), None)
    upload_event = newest if upload_files else None
    checkpoint = (
        artifact_upload.upload_checkpoint(job, upload_event, workdir) if upload_event else None
    )
    if checkpoint:
        failpoint("worker.checkpoint")
    stored = teacher_cache.upload_new_files(job, batch) if upload_files else {}
    dropped: list[str] = []
    with transaction() as session:
        row = jobs.lock_leased_job(session, job.id, job.fence)
        before = jobs.record_engine_seq(session, row, batch[-1].seq)
        fresh = [event for event in batch if event.seq > before]
        metric_series.write(session, row, [e for e in fresh if isinstance(e, MetricsEvent)])
        for event in fresh:
            _store_event(session, row, event, stored)
        if newest and not upload_files:
            message = "a checkpoint could not be stored: the object store is away"
            event_log.append(session, row, "log", {"level": "warning", "message": message})
        if checkpoint and newest and newest.seq > before:
            dropped = _record_checkpoint(session, row, checkpoint)
    for key in dropped:
        with contextlib.suppress(OSError):  # the keeper deletes what stays
            object_store.delete(key)


def _store_event(session: Session, job: Job, event: AnyEvent, stored: dict[str, str]) -> None:
    match event:
        case PhaseEvent():
            jobs.enter_phase(session, job, event.phase, event.runtime)
        case MetricsEvent():
            _update_progress(job, event)
            data = event.model_dump(mode="json", exclude={"seq", "time", "type"})
            data["values"] = {key: value for key, value in event.values.items() if value == value}
            event_log.append(session, job, "metrics", data)
        case LogEvent():
            event_log.append(session, job, "log", {"level": event.level, "message": event.message})
        case TeacherCacheEvent():
            teacher_cache.record_event(session, job, event, stored)
        case _:
            pass  # artifacts, report and error are published when the run is over


def _update_progress(job: Job, event: MetricsEvent) -> None:
    if event.progress:
        job.progress = event.progress.model_dump()
    job.eta_s = event.eta_s if event.eta_s is not None else job.eta_s


def _record_checkpoint(session: Session, job: Job, checkpoint: Checkpoint) -> list[str]:
    session.add(checkpoint)
    session.flush()
    job.lost_runs = 0  # the job came further: earlier losses do not count against it
    data = {"id": checkpoint.id, "step": checkpoint.step, "epoch": checkpoint.epoch}
    event_log.append(session, job, "checkpoint", data | {"size_bytes": checkpoint.size_bytes})
    return artifact_upload.prune_checkpoints(session, job)
