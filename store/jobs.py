"""The life of a job. Nobody else writes a job's state.

    queued -> starting -> running -> succeeded | failed | cancelled
                  \\          \\-> cancelling -> cancelled
                   \\-> queued again (drained, lost, crashed once)

Every write of a run carries the fence that its claim was given; when the row has moved on, the
write raises :class:`FencedOut` and nothing of the transaction remains. Leases are told by the
database's clock alone.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store import assets, events, queue
from store.ids import new_id
from store.settings import settings
from store.tables import Artifact, Job, Run

LIVE = ("starting", "running", "pausing", "cancelling")
TERMINAL = ("succeeded", "failed", "cancelled")


class FencedOut(Exception):  # noqa: N818 - it is an outcome, not a fault
    """The job belongs to a later run, or to none: this one must stop and write nothing."""


class IllegalTransition(Exception):  # noqa: N818 - the name that the API's problem uses
    """The action is not possible in the job's present state."""

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"a job that is {state} cannot be {action}")
        self.state = state


def create(session: Session, job: Job) -> Job:
    """Store a new job, queued, and ask a worker of its lane to look."""
    job.state = "queued"
    job.num_runs = job.event_seq = 0
    session.add(job)
    session.flush()
    _enter(session, job, "queued")
    queue.poke(session, job.lane)
    return job


def claim(session: Session, lane: str, worker: str) -> Job | None:
    """Take the best eligible job of the lane: a lease, a higher fence, a new run. None if none."""
    job = session.scalars(
        select(Job)
        .where(Job.state == "queued", Job.desired_state == "run", Job.lane == lane)
        .order_by(Job.priority.desc(), Job.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if job is None:
        return None
    job.fence += 1
    job.num_runs += 1
    job.lease_owner = worker
    job.lease_expires_at = _lease_end()
    job.started_at = job.started_at or func.clock_timestamp()
    session.add(
        Run(
            id=new_id("run"),
            project_id=job.project_id,
            job_id=job.id,
            number=job.num_runs,
            fence=job.fence,
            worker=worker,
        )
    )
    _enter(session, job, "starting")
    session.flush()
    session.refresh(job)
    return job


def held(session: Session, job_id: str, fence: int) -> Job:
    """The job's row, locked, for the run that holds it; raises FencedOut for any other."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None or job.fence != fence or job.state not in LIVE or job.lease_owner is None:
        raise FencedOut(job_id)
    return job


def renew(session: Session, job_id: str, fence: int) -> str:
    """Heartbeat: the lease from now on. Returns what the user wants of the job: run or cancel."""
    wanted = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(LIVE))
        .values(lease_expires_at=_lease_end())
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
        _run(session, job).device = chosen.get("device")
        _run(session, job).resumed_from_step = chosen.get("resumed_from_step")
    if job.state == "starting":
        _enter(session, job, "running")
    events.append(session, job, "phase", {"phase": phase} | ({"chosen": chosen} if chosen else {}))


def succeed(
    session: Session, job: Job, result: dict[str, Any], artifacts: Iterable[Artifact]
) -> None:
    """Publish the held job's outcome: all of it becomes visible with this commit, or nothing."""
    for artifact in artifacts:
        session.add(artifact)
        events.append(
            session,
            job,
            "artifact",
            {"id": artifact.id, "name": artifact.name, "size_bytes": artifact.size_bytes},
        )
    job.result = result
    events.append(session, job, "report", {})
    _end(session, job, "succeeded", "done")


def fail(session: Session, job: Job, error: dict[str, Any], run_exit: str) -> None:
    """End the held job with an error ``{code, message, hint, retryable, items}``."""
    job.error = error | {"run": job.num_runs, "phase": job.phase}
    events.append(session, job, "error", job.error)
    _end(session, job, "failed", run_exit)


def release(session: Session, job: Job, run_exit: str) -> None:
    """Give the held job back: to the queue, or to rest where the user wants it cancelled."""
    if job.desired_state == "cancel":
        _end(session, job, "cancelled", run_exit)
        return
    _leave(session, job, run_exit)
    job.queued_at = func.clock_timestamp()
    _enter(session, job, "queued", reason=run_exit)
    queue.poke(session, job.lane)


def lose(session: Session, job: Job, message: str) -> None:
    """A run of the held job is lost: queue it again, unless too many were lost in a row."""
    job.losses += 1
    if job.losses >= settings().max_losses and job.desired_state != "cancel":
        error = {
            "code": "worker_lost",
            "message": f"{message}; {job.losses} runs were lost since the last new checkpoint",
            "hint": "the job may need more memory than the worker has: try a smaller batch_size",
            "retryable": True,
            "items": [],
        }
        fail(session, job, error, "lost")
    else:
        release(session, job, "lost")


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


def cancel(session: Session, job: Job) -> bool:
    """Cancel a locked job. True if it has ended, False if its worker must end it first."""
    if job.state == "cancelled":
        return True
    if job.state in TERMINAL:
        raise IllegalTransition("cancelled", job.state)
    job.desired_state = "cancel"
    if job.state in LIVE and _lease_holds(session, job):
        if job.state != "cancelling":
            _enter(session, job, "cancelling")
        return False
    _end(session, job, "cancelled", "cancelled")
    return True


def delete(session: Session, job: Job) -> None:
    """Delete a locked job that has ended, with all that belongs to it."""
    if job.state not in TERMINAL:
        raise IllegalTransition("deleted", job.state)
    session.delete(job)


def _enter(session: Session, job: Job, state: str, **data: Any) -> None:
    job.state = state
    job.rev += 1
    events.append(session, job, "state", {"state": state, **data})


def _end(session: Session, job: Job, state: str, run_exit: str) -> None:
    _leave(session, job, run_exit)
    job.finished_at = func.clock_timestamp()
    job.eta_s = None
    _enter(session, job, state)
    assets.settle(session, job)


def _leave(session: Session, job: Job, run_exit: str) -> None:
    """End the present run, if there is one, and count its time."""
    if job.lease_owner is not None:
        run = _run(session, job)
        run.ended_at = func.clock_timestamp()
        run.exit = run_exit
        session.flush()
        session.refresh(run)
        if run.ended_at is not None:
            job.device_s += (run.ended_at - run.started_at).total_seconds()
    job.lease_owner = None
    job.lease_expires_at = None
    job.phase = None


def _run(session: Session, job: Job) -> Run:
    return session.scalars(
        select(Run).where(Run.job_id == job.id, Run.number == job.num_runs)
    ).one()


def _lease_end() -> Any:
    return func.clock_timestamp() + timedelta(seconds=settings().lease_s)


def _lease_holds(session: Session, job: Job) -> bool:
    query = select(Job.lease_expires_at > func.clock_timestamp()).where(Job.id == job.id)
    return bool(session.scalar(query))
