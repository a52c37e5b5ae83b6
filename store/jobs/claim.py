"""Which job is next: the projects take turns, and within a project the highest priority goes first.

A project with ten thousand jobs therefore delays the first job of another by one turn, and nobody
gains by a higher priority what belongs to others.
"""

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.ids import new_id
from store.jobs.states import enter_state, lease_expiry
from store.tables import Job, Project, ProjectTurn, Run
from store.tables.jobs import LIVE_STATES

_LOCK = 0x5711_0003  # claims of a queue one after the other: two at once would take one turn twice


def claim(session: Session, queue: str, worker: str) -> Job | None:
    """Take the queue's next job: a lease, a higher fence, a new run. None if none waits."""
    key = func.hashtext(queue)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK, key)))
    for project_id in session.scalars(_projects_by_turn(queue)).all():
        job = session.scalars(
            select(Job)
            .where(Job.project_id == project_id, *_claimable(queue))
            .order_by(Job.priority.desc(), Job.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if job is not None:
            return _start_run(session, job, worker)
    return None


def _claimable(queue: str) -> tuple[ColumnElement[bool], ...]:
    due = or_(Job.not_before.is_(None), Job.not_before <= func.clock_timestamp())
    return (Job.state == "queued", Job.desired_state == "run", Job.queue == queue, due)


def _projects_by_turn(queue: str) -> Select[str]:
    """Projects with waiting jobs: who holds the fewest slots, then whose turn is longest ago."""
    active_count = (
        select(func.count())
        .where(Job.project_id == Project.id, Job.queue == queue, Job.state.in_(LIVE_STATES))
        .scalar_subquery()
    )
    waits = select(Job.id).where(Job.project_id == Project.id, *_claimable(queue)).exists()
    same_turn = (ProjectTurn.project_id == Project.id) & (ProjectTurn.queue == queue)
    return (
        select(Project.id)
        .outerjoin(ProjectTurn, same_turn)
        .where(waits)
        .order_by(active_count, ProjectTurn.last_claimed_at.asc().nulls_first(), Project.id)
    )


def _start_run(session: Session, job: Job, worker: str) -> Job:
    now = func.clock_timestamp()
    # By the clock, and not by one more: a database that is restored from an older copy must never
    # give a fence again that a run of before may still carry.
    job.fence = func.greatest(Job.fence + 1, func.floor(func.extract("epoch", now) * 1000))
    job.num_runs += 1
    job.not_before = None
    job.lease_owner = worker
    job.lease_expires_at = lease_expiry()
    job.started_at = job.started_at or now
    turn = insert(ProjectTurn).values(
        project_id=job.project_id, queue=job.queue, last_claimed_at=now
    )
    taken = turn.on_conflict_do_update(
        index_elements=["project_id", "queue"], set_={"last_claimed_at": now}
    )
    session.execute(taken)
    session.flush()
    session.refresh(job)
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
    enter_state(session, job, "starting")
    session.flush()
    return job
