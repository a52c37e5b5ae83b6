"""QueueStatus: how many jobs are ahead of a queued job, and which workers serve its queue."""

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, object_session

from store.jobs.claim import in_queue, turn_order, waiting_projects
from store.settings import settings
from store.tables import Dataset, Job, Model, Worker


class LiveWorkers(NamedTuple):
    """The workers of a queue whose heartbeat is younger than a lease."""

    num_workers: int
    missing_disk_bytes: int
    """Bytes that must be freed before any of them starts a job; 0 if one has enough space."""


class QueueStatus:
    """Positions of all jobs of one response, with one query for each queue and project.

    With ``job_id``, only that job's position is read.
    """

    def __init__(self, session: Session, job_id: str | None = None) -> None:
        self._session = session
        self._job_id = job_id
        self._positions: dict[tuple[str, str], dict[str, int]] = {}
        self._workers: dict[str, LiveWorkers] = {}

    def jobs_ahead(self, job: Job) -> int:
        """How many queued jobs would be claimed before this one if nothing changed."""
        queue_and_project = (job.queue, job.project_id)
        if queue_and_project not in self._positions:
            rows = self._session.execute(_queue_positions(*queue_and_project, self._job_id))
            self._positions[queue_and_project] = {row[0]: row[1] for row in rows}
        return self._positions[queue_and_project].get(job.id, 0)

    def waiting_reason(self, job: Job) -> str | None:
        """Why a queued job does not run yet; None for a job in another state."""
        if job.state != "queued":
            return None
        workers = self._live_workers(job.queue)
        if workers.num_workers == 0:
            return "no worker is running"
        if workers.missing_disk_bytes:
            return no_disk_space(workers.missing_disk_bytes)
        if job.not_before is not None:
            return "the object store was unavailable: the job is retried soon"
        if jobs_ahead := self.jobs_ahead(job):
            return f"{jobs_ahead} jobs are ahead" if jobs_ahead > 1 else "1 job is ahead"
        return "all workers are busy"

    def _live_workers(self, queue: str) -> LiveWorkers:
        if queue not in self._workers:
            self._workers[queue] = live_workers(self._session, queue)
        return self._workers[queue]


def preparation_waiting_reason(asset: Dataset | Model) -> str | None:
    """Why the job that prepares a data set or model waits; None if it runs or has ended."""
    session = object_session(asset)
    if session is None or asset.state not in ("ingesting", "verifying"):
        return None
    column = Job.dataset_id if isinstance(asset, Dataset) else Job.model_id
    waiting = select(Job).where(column == asset.id, Job.queue == "prepare", Job.state == "queued")
    job = session.scalars(waiting.limit(1)).first()
    return None if job is None else QueueStatus(session, job_id=job.id).waiting_reason(job)


def count_queued(session: Session, project_id: str, queue: str) -> int:
    """How many jobs of a project wait in a queue."""
    waits = (Job.state == "queued", Job.queue == queue, Job.project_id == project_id)
    return session.scalar(select(func.count()).where(*waits)) or 0


def live_workers(session: Session, queue: str) -> LiveWorkers:
    """The workers of a queue that are alive."""
    alive = (Worker.queue == queue, Worker.seen_at > liveness_cutoff())
    missing = func.coalesce(func.min(Worker.missing_disk_bytes), 0)
    return LiveWorkers(*session.execute(select(func.count(), missing).where(*alive)).one())


def no_disk_space(missing_bytes: int) -> str:
    """Why no worker of a queue starts a job, in words."""
    megabytes = -(-missing_bytes // 10**6)
    return f"the disk of the workers is full: {megabytes:,} MB must be freed"


def liveness_cutoff() -> Any:
    """A worker whose last heartbeat is older than this moment counts as dead."""
    return func.clock_timestamp() - timedelta(seconds=settings().lease_s)


def _queue_positions(queue: str, project_id: str, job_id: str | None) -> Select[str, int]:
    """Positions of a project's queued jobs among those of all projects."""
    # A delayed job is in no order: others pass it.
    waiting = (*in_queue(queue), Job.not_before.is_(None))
    projects = waiting_projects(queue, waiting)
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
    order = turn_order(projects, ranked.c.project_rank)
    position = (func.row_number().over(order_by=order) - 1).label("position")
    positions = (
        select(ranked.c.id, ranked.c.project_id, position)
        .join(projects, projects.c.project_id == ranked.c.project_id)
        .subquery()
    )
    query = select(positions.c.id, positions.c.position).where(positions.c.project_id == project_id)
    return query if job_id is None else query.where(positions.c.id == job_id)
