"""Which job is next: the projects take turns, and within a project the highest priority goes first.

A project with ten thousand jobs therefore delays the first job of another by one turn, and nobody
gains by a higher priority what belongs to others.
"""

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.ids import new_id
from store.jobs.states import enter, lease_end
from store.tables import Job, Project, Run, Turn
from store.tables.jobs import LIVE

_LOCK = 0x5711_0003  # claims of a lane one after the other: two at once would take one turn twice


def claim(session: Session, lane: str, worker: str) -> Job | None:
    """Take the lane's next job: a lease, a higher fence, a new run. None if none waits."""
    key = func.hashtext(lane)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK, key)))
    for project_id in session.scalars(_turns(lane)).all():
        job = session.scalars(
            select(Job)
            .where(Job.project_id == project_id, *_waits(lane))
            .order_by(Job.priority.desc(), Job.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if job is not None:
            return _start(session, job, worker)
    return None


def _waits(lane: str) -> tuple[ColumnElement[bool], ...]:
    due = or_(Job.not_before.is_(None), Job.not_before <= func.clock_timestamp())
    return (Job.state == "queued", Job.desired_state == "run", Job.lane == lane, due)


def _turns(lane: str) -> Select[str]:
    """Projects with waiting jobs: who holds the fewest slots, then whose turn is longest ago."""
    held = (
        select(func.count())
        .where(Job.project_id == Project.id, Job.lane == lane, Job.state.in_(LIVE))
        .scalar_subquery()
    )
    waits = select(Job.id).where(Job.project_id == Project.id, *_waits(lane)).exists()
    mine = (Turn.project_id == Project.id) & (Turn.lane == lane)
    return (
        select(Project.id)
        .outerjoin(Turn, mine)
        .where(waits)
        .order_by(held, Turn.taken_at.asc().nulls_first(), Project.id)
    )


def _start(session: Session, job: Job, worker: str) -> Job:
    now = func.clock_timestamp()
    # By the clock, and not by one more: a database that is restored from an older copy must never
    # give a fence again that a run of before may still carry.
    job.fence = func.greatest(Job.fence + 1, func.floor(func.extract("epoch", now) * 1000))
    job.num_runs += 1
    job.not_before = None
    job.lease_owner = worker
    job.lease_expires_at = lease_end()
    job.started_at = job.started_at or now
    turn = insert(Turn).values(project_id=job.project_id, lane=job.lane, taken_at=now)
    taken = turn.on_conflict_do_update(
        index_elements=["project_id", "lane"], set_={"taken_at": now}
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
    enter(session, job, "starting")
    session.flush()
    return job
