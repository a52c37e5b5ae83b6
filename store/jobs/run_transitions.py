"""What a run writes of its job: every write carries the fence that its claim was given."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store import event_log, outbox
from store.jobs.states import FencedOut, end, enter, lease_end, leave, run_of
from store.settings import settings
from store.tables import Artifact, Job
from store.tables.jobs import LIVE


def held(session: Session, job_id: str, fence: int) -> Job:
    """The job's row, locked, for the run that holds it; raises FencedOut for any other."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None or job.fence != fence or job.state not in LIVE or job.lease_owner is None:
        raise FencedOut(job_id)
    return job


def renew(session: Session, job_id: str, fence: int) -> str:
    """Heartbeat: the lease from now on. Returns what the user wants: run, pause or cancel."""
    wanted = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(LIVE))
        .values(lease_expires_at=lease_end())
        .returning(Job.desired_state)
    )
    if wanted is None:
        raise FencedOut(job_id)
    return str(wanted)


def begin(session: Session, job: Job, phase: str, chosen: dict[str, Any] | None) -> None:
    """The held job's engine has entered a phase; the first one makes it running."""
    job.phase = phase
    if chosen:
        job.resolved = {**job.resolved, "chosen": chosen}
        run_of(session, job).device = chosen.get("device")
        run_of(session, job).resumed_from_step = chosen.get("resumed_from_step")
    if job.state == "starting":
        enter(session, job, "running")
    event_log.append(
        session, job, "phase", {"phase": phase} | ({"chosen": chosen} if chosen else {})
    )


def accept(session: Session, job: Job, last: int) -> int:
    """Note the number of the last engine event that is stored now; returns the one before.

    The reply to a commit may be lost: what comes again must not be stored again.
    """
    run = run_of(session, job)
    before, run.engine_seq = run.engine_seq, max(run.engine_seq, last)
    return before


def succeed(
    session: Session, job: Job, result: dict[str, Any], artifacts: Iterable[Artifact]
) -> None:
    """Publish the held job's outcome: all of it becomes visible with this commit, or nothing."""
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
    end(session, job, "succeeded", "done")


def fail(session: Session, job: Job, error: dict[str, Any], run_exit: str) -> None:
    """End the held job with an error ``{code, message, hint, retryable, items}``.

    A job that shall be cancelled is: its error is told of, and nobody has to deal with it.
    """
    found = error | {"run": job.num_runs, "phase": job.phase}
    event_log.append(session, job, "error", found)
    if job.desired_state == "cancel":
        end(session, job, "cancelled", run_exit)
        return
    job.error = found
    end(session, job, "failed", run_exit)


def release(session: Session, job: Job, run_exit: str, pause_s: float = 0.0) -> None:
    """Give the held job back: to the queue, or to rest where the user wants that.

    Nobody takes it from the queue before ``pause_s`` seconds are over.
    """
    if job.desired_state == "cancel":
        end(session, job, "cancelled", run_exit)
        return
    leave(session, job, run_exit)
    if job.desired_state == "pause":
        enter(session, job, "paused", reason=run_exit)
        return
    job.queued_at = func.clock_timestamp()
    enter(session, job, "queued", reason=run_exit)
    if pause_s:
        job.not_before = func.clock_timestamp() + timedelta(seconds=pause_s)
    else:
        outbox.poke(session, job.lane)


def lose(session: Session, job: Job, message: str, run_exit: str = "lost") -> None:
    """A run of the held job is lost: queue it again, unless too many were lost in a row."""
    job.losses += 1
    told = {"level": "warning", "message": f"run {job.num_runs} is lost: {message}"}
    event_log.append(session, job, "log", told)
    if job.losses >= settings().max_losses and job.desired_state != "cancel":
        error = {
            "code": "worker_lost",
            "message": f"{message}; {job.losses} runs were lost since the last new checkpoint",
            "hint": _HINTS.get(run_exit, _HINTS["lost"]),
            "retryable": True,
            "items": [],
        }
        fail(session, job, error, run_exit)
    else:
        release(session, job, run_exit)


_HINTS = {
    "lost": "the job may need more memory than the worker has: try a smaller batch_size",
    "stalled": "retry; if it comes again, tell whoever runs the workers: a device or disk may hang",
}


def wake(session: Session) -> None:
    """Let the jobs be taken again whose pause is over, and ask workers to look."""
    over = Job.not_before <= func.clock_timestamp()
    woken = session.scalars(
        update(Job).where(Job.state == "queued", over).values(not_before=None).returning(Job.lane)
    )
    for lane in set(woken):
        outbox.poke(session, lane)


def reap(session: Session) -> int:
    """Take back every job whose lease has expired. Returns how many."""
    expired = session.scalars(
        select(Job)
        .where(Job.lease_expires_at < func.clock_timestamp(), Job.state.in_(LIVE))
        .with_for_update(skip_locked=True)
    ).all()
    for job in expired:
        lose(session, job, f"the worker {job.lease_owner} was not heard of any more")
    return len(expired)
