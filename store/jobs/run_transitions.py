"""Transitions by a run: every write is checked against the fence of the run's claim."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store import event_log, outbox
from store.jobs.states import (
    LeaseLostError,
    current_run,
    end_job,
    end_run,
    enter_state,
    lease_expiry,
)
from store.settings import settings
from store.tables import Artifact, Job
from store.tables.runs import LIVE_STATES


def lock_leased_job(session: Session, job_id: str, fence: int) -> Job:
    """The job's locked row. Raises LeaseLostError if another run, or none, holds the job."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None or job.fence != fence or job.state not in LIVE_STATES or job.lease_owner is None:
        raise LeaseLostError(job_id)
    return job


def renew_lease(session: Session, job_id: str, fence: int) -> str:
    """Extend the lease from now on. Returns the desired state: run, pause or cancel."""
    desired_state = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(LIVE_STATES))
        .values(lease_expires_at=lease_expiry())
        .returning(Job.desired_state)
    )
    if desired_state is None:
        raise LeaseLostError(job_id)
    return str(desired_state)


def enter_phase(session: Session, job: Job, phase: str, runtime: dict[str, Any] | None) -> None:
    """Record that the run has entered a phase; the first phase makes the job running.

    The first phase event of an engine carries ``runtime``: device, precision, threads, versions.
    """
    job.phase = phase
    if runtime:
        run = current_run(session, job)
        run.runtime = runtime
        run.device = runtime.get("device")
        run.resumed_from_step = runtime.get("resumed_from_step")
    if job.state == "starting":
        enter_state(session, job, "running")
    event_log.append(
        session, job, "phase", {"phase": phase} | ({"runtime": runtime} if runtime else {})
    )


def record_engine_seq(session: Session, job: Job, last_seq: int) -> int:
    """Record the number of the newest stored engine event. Returns the number before.

    The reply to a commit may be lost: a batch that comes again must not be stored twice.
    """
    run = current_run(session, job)
    before, run.engine_seq = run.engine_seq, max(run.engine_seq, last_seq)
    return before


def succeed(
    session: Session, job: Job, result: dict[str, Any], artifacts: Iterable[Artifact]
) -> None:
    """Publish the result of the run: all of it becomes visible with this commit."""
    for artifact in artifacts:
        session.add(artifact)
        event_log.append(
            session,
            job,
            "artifact",
            {"id": artifact.id, "name": artifact.name, "size_bytes": artifact.size_bytes},
        )
    job.result = result
    event_log.append(session, job, "report", {})
    end_job(session, job, "succeeded", "done")


def fail(session: Session, job: Job, error: dict[str, Any], run_exit: str) -> None:
    """End the job with an error ``{code, message, hint, retryable, items}``.

    ``num_items`` counts the items, unless the error has a larger number.

    A job whose cancellation was requested ends as cancelled; its error is only logged as an event.
    """
    counted = {"num_items": len(error.get("items") or [])} | error
    job_error = counted | {"run": job.num_runs, "phase": job.phase}
    event_log.append(session, job, "error", job_error)
    if job.desired_state == "cancel":
        end_job(session, job, "cancelled", run_exit)
        return
    job.error = job_error
    end_job(session, job, "failed", run_exit)


def release(session: Session, job: Job, run_exit: str, delay_s: float = 0.0) -> None:
    """End the run and queue the job again, or pause or cancel it if the user requested that.

    With ``delay_s``, no worker claims the job before that many seconds are over.
    """
    if job.desired_state == "cancel":
        end_job(session, job, "cancelled", run_exit)
        return
    end_run(session, job, run_exit)
    if job.desired_state == "pause":
        enter_state(session, job, "paused", reason=run_exit)
        return
    job.queued_at = func.clock_timestamp()
    enter_state(session, job, "queued", reason=run_exit)
    if delay_s:
        job.not_before = func.clock_timestamp() + timedelta(seconds=delay_s)
    else:
        outbox.notify(session, job.queue)


def handle_lost_run(session: Session, job: Job, message: str, run_exit: str = "lost") -> None:
    """End a lost run: queue the job again, unless too many runs were lost in a row."""
    job.lost_runs += 1
    log_data = {"level": "warning", "message": f"run {job.num_runs} is lost: {message}"}
    event_log.append(session, job, "log", log_data)
    if job.lost_runs >= settings().max_lost_runs and job.desired_state != "cancel":
        error = {
            "code": "worker_lost",
            "message": f"{message}; {job.lost_runs} runs were lost since the last new checkpoint",
            "hint": _HINTS.get(run_exit, _HINTS["lost"]),
            "retryable": True,
            "items": [],
        }
        fail(session, job, error, run_exit)
    else:
        release(session, job, run_exit)


_HINTS = {
    "lost": "the job may need more memory than the worker has: try a smaller batch_size",
    "stalled": "retry the job; if it stalls again, check the device and disk of the worker",
}


def wake_delayed_jobs(session: Session) -> None:
    """Let workers claim the jobs whose delay is over, and notify them."""
    over = Job.not_before <= func.clock_timestamp()
    woken_queues = session.scalars(
        update(Job).where(Job.state == "queued", over).values(not_before=None).returning(Job.queue)
    )
    for queue_name in set(woken_queues):
        outbox.notify(session, queue_name)


def reap_expired_leases(session: Session) -> int:
    """End the runs whose lease has expired. Returns how many."""
    expired = session.scalars(
        select(Job)
        .where(Job.lease_expires_at < func.clock_timestamp(), Job.state.in_(LIVE_STATES))
        .with_for_update(skip_locked=True)
    ).all()
    for job in expired:
        handle_lost_run(
            session,
            job,
            f"the worker {job.lease_owner} sent no heartbeat for {settings().lease_s:.0f} s",
        )
    return len(expired)
