"""claim: takes the next job of a queue for a worker.

Projects take turns: the one that holds the fewest slots is next, and among equals the one whose
last turn is longest ago. A project with ten thousand jobs therefore delays the first job of another
by one turn. Within a project the highest priority goes first: a priority orders only the jobs of
its project.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.ids import new_id
from store.jobs.states import enter_state, lease_expiry
from store.tables import Job, Project, ProjectTurn, Run
from store.tables.runs import LIVE_STATES

_LOCK = 0x5711_0003  # serializes claims of a queue: two at once would use one turn twice


def claim(session: Session, queue: str, worker: str) -> Job | None:
    """Claim the next job: a lease, a higher fence, a new run. Returns None if no job waits."""
    key = func.hashtext(queue)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK, key)))
    projects = waiting_projects(queue, _claimable(queue))
    query = select(projects.c.project_id).order_by(*turn_order(projects))
    for project_id in session.scalars(query).all():
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
    return (*in_queue(queue), due)


def _start_run(session: Session, job: Job, worker: str) -> Job:
    now = func.clock_timestamp()
    # By the clock, not only by one more: a database that was restored from an older backup must not
    # issue a fence again that an earlier run may still hold.
    job.fence = func.greatest(Job.fence + 1, func.floor(func.extract("epoch", now) * 1000))
    job.num_runs += 1
    job.not_before = None
    job.lease_owner = worker
    job.lease_expires_at = lease_expiry()
    job.started_at = job.started_at or now
    turn = insert(ProjectTurn).values(
        project_id=job.project_id, queue=job.queue, last_claimed_at=now
    )
    session.execute(
        turn.on_conflict_do_update(
            index_elements=["project_id", "queue"], set_={"last_claimed_at": now}
        )
    )
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


def in_queue(queue: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions of jobs that wait in the queue, delayed ones included."""
    return (Job.state == "queued", Job.desired_state == "run", Job.queue == queue)


def waiting_projects(queue: str, waiting: Sequence[ColumnElement[bool]]) -> CTE:
    """Projects with a job that meets ``waiting``: project_id, num_active jobs, last_claimed_at."""
    num_active = (
        select(func.count())
        .where(Job.project_id == Project.id, Job.queue == queue, Job.state.in_(LIVE_STATES))
        .scalar_subquery()
    )
    same_turn = (ProjectTurn.project_id == Project.id) & (ProjectTurn.queue == queue)
    return (
        select(
            Project.id.label("project_id"),
            num_active.label("num_active"),
            ProjectTurn.last_claimed_at,
        )
        .outerjoin(ProjectTurn, same_turn)
        .where(select(Job.id).where(Job.project_id == Project.id, *waiting).exists())
        .cte("waiting_projects")
    )


def turn_order(projects: CTE, rank: ColumnElement[int] | None = None) -> tuple[Any, ...]:
    """The order in which the projects of :func:`waiting_projects` have their turns.

    ``rank`` numbers the jobs of each project, from 1: the n-th job of a project has its turn in
    the round that follows its active jobs. Without it, only first jobs are ordered.
    """
    number = literal(1) if rank is None else rank
    return (
        projects.c.num_active + number,
        number,
        projects.c.last_claimed_at.asc().nulls_first(),
        projects.c.project_id,
    )
