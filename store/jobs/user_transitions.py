"""What users want of a job. Its worker learns of it by the next heartbeat.

Where no worker has the job, nor can have it any more, what is wanted is done at once.
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
from store.tables.jobs import LIVE_STATES


def cancel(session: Session, job: Job) -> bool:
    """Cancel a locked job. True if it has ended, False if its worker must end it first."""
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
    """Let a locked job rest. True if it does, False if its worker writes a checkpoint first."""
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
    """Let a locked job go on that rests, or is about to."""
    if job.state not in ("paused", "pausing"):
        raise IllegalTransitionError("resumed", job.state)
    job.desired_state = "run"
    if job.state == "paused":
        _enqueue(session, job)
    else:
        # Its worker may have stopped the engine already: then the job is queued when it lets go.
        enter_state(session, job, "running" if job.phase else "starting")


def retry(session: Session, job: Job) -> None:
    """Give a locked job that has failed another run, from its last checkpoint on."""
    if job.state != "failed":
        raise IllegalTransitionError("retried", job.state)
    job.desired_state = "run"
    job.error = None
    job.finished_at = None
    job.lost_runs = job.crashes = 0
    _enqueue(session, job)


def delete(session: Session, job: Job) -> None:
    """Delete a locked job that has ended, with all that belongs to it."""
    if job.state not in TERMINAL_STATES:
        raise IllegalTransitionError("deleted", job.state)
    session.delete(job)


def _signal_worker(session: Session, job: Job, state: str) -> bool:
    """Whether a worker has the job, and will learn of the wish; the job waits for it in a state."""
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
