"""The event sink: writes the engine's events as rows, each batch in one fenced transaction."""

import contextlib
from pathlib import Path

from sqlalchemy.orm import Session

from kdcore.protocol.events import (
    AnyEvent,
    CheckpointEvent,
    IngestSummaryEvent,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    TeacherCacheEvent,
)
from kdcore.runtime.failpoints import failpoint
from store import event_log, jobs, metric_series, object_store
from store.database import transaction
from store.tables import Checkpoint, Dataset, Job
from worker.files import run_uploads, teacher_cache


def store_events(
    job: Job, batch: list[AnyEvent], workdir: Path, *, upload_files: bool = True
) -> None:
    """Store a batch of events, and the files that they name.

    Without ``upload_files`` no file is stored: the object store has been unavailable for long.

    Raises:
        LeaseLostError: the job has moved on to a later run; nothing was stored.
    """
    # Only the newest checkpoint of a batch is uploaded: it replaces the others.
    newest = next((e for e in reversed(batch) if isinstance(e, CheckpointEvent)), None)
    upload_event = newest if upload_files else None
    checkpoint = run_uploads.upload_checkpoint(job, upload_event, workdir) if upload_event else None
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
            message = "a checkpoint could not be stored: the object store is unavailable"
            event_log.append(session, row, "log", {"level": "warning", "message": message})
        if checkpoint and newest and newest.seq > before:
            dropped = _record_checkpoint(session, row, checkpoint)
    for key in dropped:
        with contextlib.suppress(OSError):  # garbage collection deletes what stays
            object_store.delete(key)


def _store_event(session: Session, job: Job, event: AnyEvent, stored: dict[str, str]) -> None:
    match event:
        case PhaseEvent():
            jobs.enter_phase(session, job, event.phase, event.runtime)
        case MetricsEvent():
            _update_progress(job, event)
            data = event.model_dump(mode="json", exclude={"seq", "time", "type"})
            if not event.non_finite:
                del data["non_finite"]
            event_log.append(session, job, "metrics", data)
        case LogEvent():
            event_log.append(session, job, "log", {"level": event.level, "message": event.message})
        case TeacherCacheEvent():
            teacher_cache.record_event(session, job, event, stored)
        case IngestSummaryEvent():
            dataset = session.get_one(Dataset, job.dataset_id)
            dataset.ingest_summary = event.summary.model_dump(mode="json")
            dataset.rev += 1
        case _:
            pass  # artifacts, report and error are published when the run has ended


def _update_progress(job: Job, event: MetricsEvent) -> None:
    if event.progress:
        job.progress = event.progress.model_dump()
    job.eta_s = event.eta_s if event.eta_s is not None else job.eta_s


def _record_checkpoint(session: Session, job: Job, checkpoint: Checkpoint) -> list[str]:
    session.add(checkpoint)
    session.flush()
    job.lost_runs = 0  # the job made progress: earlier losses no longer count
    data = {"id": checkpoint.id, "step": checkpoint.step, "epoch": checkpoint.epoch}
    event_log.append(session, job, "checkpoint", data | {"size_bytes": checkpoint.size_bytes})
    return run_uploads.prune_checkpoints(session, job)
