"""Transitions by users: cancel, pause, resume, retry, delete.

The worker that holds the job reads the desired state with its next heartbeat. Without such a
worker, the transition happens at once.
"""

from sqlalchemy import func
from sqlalchemy.orm import Session

from store import outbox
from store.jobs.states import (
    TERMINAL_STATES,
    IllegalTransitionError,
    end_job,
    end_run,
    enter_state,
    is_leased,
)
from store.tables import Job
from store.tables.runs import LIVE_STATES


def cancel(session: Session, job: Job) -> bool:
    """Cancel a locked job. Returns True if it has ended, False if its worker must end it first."""
    if job.state == "cancelled":
        return True
    if job.state in TERMINAL_STATES:
        raise IllegalTransitionError("cancelled", job.state)
    job.desired_state = "cancel"
    if _signal_worker(session, job, "cancelling"):
        return False
    end_job(session, job, "cancelled", "cancelled")
    return True


def pause(session: Session, job: Job) -> bool:
    """Pause a locked job. Returns False if its worker writes a checkpoint first."""
    if job.state == "paused":
        return True
    if job.state in TERMINAL_STATES or job.state == "cancelling":
        raise IllegalTransitionError("paused", job.state)
    job.desired_state = "pause"
    if _signal_worker(session, job, "pausing"):
        return False
    end_run(session, job, "lost")
    enter_state(session, job, "paused")
    return True


def resume(session: Session, job: Job) -> None:
    """Continue a locked job that is paused or pausing."""
    if job.state not in ("paused", "pausing"):
        raise IllegalTransitionError("resumed", job.state)
    job.desired_state = "run"
    if job.state == "paused":
        _enqueue(session, job)
    else:
        # If its worker has stopped the engine already, the end of the run queues the job.
        enter_state(session, job, "running" if job.phase else "starting")


def retry(session: Session, job: Job) -> None:
    """Queue a failed job again; it continues from its last checkpoint."""
    if job.state != "failed":
        raise IllegalTransitionError("retried", job.state)
    job.desired_state = "run"
    job.error = None
    job.finished_at = None
    job.lost_runs = job.crashes = 0
    _enqueue(session, job)


def delete(session: Session, job: Job) -> None:
    """Delete a locked job that has ended, with all rows that belong to it."""
    if job.state not in TERMINAL_STATES:
        raise IllegalTransitionError("deleted", job.state)
    session.delete(job)


def _signal_worker(session: Session, job: Job, state: str) -> bool:
    """Set the state in which the job waits for its worker. Returns False if no worker holds it."""
    if job.state not in LIVE_STATES or not is_leased(session, job):
        return False
    if job.state != state:
        enter_state(session, job, state)
    return True


def _enqueue(session: Session, job: Job) -> None:
    job.queued_at = func.clock_timestamp()
    job.not_before = None
    enter_state(session, job, "queued")
    outbox.notify(session, job.queue)
