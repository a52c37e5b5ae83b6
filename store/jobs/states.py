"""The states of a job, and the functions through which every transition goes.

queued -> starting -> running -> succeeded | failed | cancelled
   |          \\         |\\-> pausing -> paused -> queued
   |           \\        \\-> cancelling -> cancelled
   \\-> paused  \\-> queued again (shutdown, lost, crashed once);  failed -> queued by a retry
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store import event_log, outbox
from store.jobs import prepared_assets
from store.settings import settings
from store.tables import Job, Run

TERMINAL_STATES = ("succeeded", "failed", "cancelled")


class LeaseLostError(Exception):
    """The job belongs to a later run, or to none: this run must stop and write nothing."""


class IllegalTransitionError(Exception):
    """The action is not possible in the job's present state."""

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"a job that is {state} cannot be {action}")
        self.state = state


def create(session: Session, job: Job) -> Job:
    """Store a new job as queued, and notify the workers of its queue."""
    job.state = "queued"
    job.num_runs = job.event_seq = 0
    session.add(job)
    session.flush()
    enter_state(session, job, "queued")
    outbox.notify(session, job.queue)
    return job


def enter_state(session: Session, job: Job, state: str, **data: Any) -> None:
    """Set the state of a locked job, and append a state event with ``data``."""
    job.state = state
    job.rev += 1
    event_log.append(session, job, "state", {"state": state, **data})


def end_job(session: Session, job: Job, state: str, run_exit: str) -> None:
    """End a locked job: its run, its times, and the asset that it prepares."""
    end_run(session, job, run_exit)
    job.finished_at = func.clock_timestamp()
    job.eta_s = None
    enter_state(session, job, state)
    prepared_assets.finalize_prepared_asset(session, job)


def end_run(session: Session, job: Job, run_exit: str) -> None:
    """End the current run, if there is one, and add its time to the job."""
    if job.lease_owner is not None:
        run = current_run(session, job)
        run.ended_at = max(run.started_at, _device_used_until(session, job))
        run.exit = run_exit
        job.device_s += (run.ended_at - run.started_at).total_seconds()
    job.lease_owner = None
    job.lease_expires_at = None
    job.phase = None


def _device_used_until(session: Session, job: Job) -> datetime:
    """Now, or the last heartbeat: the remaining lease of a dead worker is not device time."""
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    if job.lease_expires_at is None:
        return now
    after_heartbeat = settings().lease_s - settings().heartbeat_s
    return min(now, job.lease_expires_at - timedelta(seconds=after_heartbeat))


def current_run(session: Session, job: Job) -> Run:
    """The current run of a job that has one."""
    return session.scalars(
        select(Run).where(Run.job_id == job.id, Run.number == job.num_runs)
    ).one()


def lease_expiry() -> Any:
    """The end of a lease that starts now, by the clock of the database."""
    return func.clock_timestamp() + timedelta(seconds=settings().lease_s)


def is_leased(session: Session, job: Job) -> bool:
    """Whether a worker holds an unexpired lease of the job."""
    query = select(Job.lease_expires_at > func.clock_timestamp()).where(Job.id == job.id)
    return bool(session.scalar(query))
