"""Turns: the fair order in which projects claim jobs of a queue, for claims and queue positions.

The project that holds the fewest slots is next, and among equals the one whose last turn is longest
ago. A project with ten thousand jobs therefore delays the first job of another by one turn.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, func, literal, select

from store.tables import Job, Project, ProjectTurn
from store.tables.runs import LIVE_STATES


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
