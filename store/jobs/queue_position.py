"""QueueStatus: how many jobs are ahead of a queued job, and how many workers serve its queue."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from store.jobs import turns
from store.settings import settings
from store.tables import Job, Worker


class QueueStatus:
    """Positions of all jobs of one response, with one query for each queue and project.

    With ``job_id``, only that job's position is read.
    """

    def __init__(self, session: Session, job_id: str | None = None) -> None:
        self._session = session
        self._job_id = job_id
        self._positions: dict[tuple[str, str], dict[str, int]] = {}
        self._worker_counts: dict[str, int] = {}

    def jobs_ahead(self, job: Job) -> int:
        """How many queued jobs would be claimed before this one if nothing changed."""
        queue_and_project = (job.queue, job.project_id)
        if queue_and_project not in self._positions:
            rows = self._session.execute(_queue_positions(*queue_and_project, self._job_id))
            self._positions[queue_and_project] = {row[0]: row[1] for row in rows}
        return self._positions[queue_and_project].get(job.id, 0)

    def count_workers(self, queue: str) -> int:
        """Workers of the queue that are alive."""
        if queue not in self._worker_counts:
            self._worker_counts[queue] = count_live_workers(self._session, queue)
        return self._worker_counts[queue]


def count_queued(session: Session, project_id: str, queue: str) -> int:
    """How many jobs of a project wait in a queue."""
    waits = (Job.state == "queued", Job.queue == queue, Job.project_id == project_id)
    return session.scalar(select(func.count()).where(*waits)) or 0


def count_live_workers(session: Session, queue: str) -> int:
    """Workers of the queue whose heartbeat is younger than a lease."""
    query = select(func.count()).where(Worker.queue == queue, Worker.seen_at > liveness_cutoff())
    return session.scalar(query) or 0


def liveness_cutoff() -> Any:
    """A worker whose last heartbeat is older than this moment counts as dead."""
    return func.clock_timestamp() - timedelta(seconds=settings().lease_s)


def _queue_positions(queue: str, project_id: str, job_id: str | None) -> Select[str, int]:
    """Positions of a project's queued jobs among those of all projects."""
    # A delayed job is in no order: others pass it.
    waiting = (*turns.in_queue(queue), Job.not_before.is_(None))
    projects = turns.waiting_projects(queue, waiting)
    ranked = (
        select(
            Job.id,
            Job.project_id,
            func.row_number()
            .over(partition_by=Job.project_id, order_by=(Job.priority.desc(), Job.created_at))
            .label("project_rank"),
        )
        .where(*waiting)
        .subquery()
    )
    order = turns.turn_order(projects, ranked.c.project_rank)
    position = (func.row_number().over(order_by=order) - 1).label("position")
    positions = (
        select(ranked.c.id, ranked.c.project_id, position)
        .join(projects, projects.c.project_id == ranked.c.project_id)
        .subquery()
    )
    query = select(positions.c.id, positions.c.position).where(positions.c.project_id == project_id)
    return query if job_id is None else query.where(positions.c.id == job_id)
