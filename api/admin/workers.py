"""Workers: which ones are alive, and which of the project's jobs they run."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.pagination import Page, PageQueryDep, paginate_list
from api.http.routing import v1_router
from store.database import read_session
from store.jobs.queue_position import liveness_cutoff
from store.tables import Job, Worker

router = v1_router("/workers", "admin")


class WorkerOut(BaseModel):
    """A worker of one queue. It runs as many jobs at a time as it has slots."""

    name: str
    object: Literal["worker"]
    queue: Literal["train", "prepare"]
    alive: bool = Field(description="Whether the last heartbeat is younger than a lease")
    busy: bool
    jobs: list[str] = Field(description="Ids of this project's jobs that it runs")
    missing_disk_bytes: int = Field(
        description="Bytes that must be freed on its disk before it starts a job; 0 if none"
    )
    started_at: str
    seen_at: str


class WorkerPage(Page[WorkerOut]):
    """Workers, those that are alive first."""


@router.get("", response_model=WorkerPage)
def list_workers(caller: JobReader, page_query: PageQueryDep) -> Response:
    """List all workers. Ids of other projects' jobs are hidden."""
    alive = Worker.seen_at > liveness_cutoff()
    query = select(Worker, alive).order_by(alive.desc(), Worker.queue, Worker.name)
    in_project = (Job.project_id == caller.project_id) & (Job.queue == scoping.TRAIN_QUEUE)
    leases = select(Job.lease_owner, Job.id, in_project).where(Job.lease_owner.is_not(None))
    with read_session() as session:
        jobs_by_worker: dict[str, list[str | None]] = {}
        for owner, job, visible in session.execute(leases.order_by(Job.started_at)):
            # A lease owner is the worker's name, a slash and the process of one of its slots.
            jobs_by_worker.setdefault(str(owner).rpartition("/")[0], []).append(
                job if visible else None
            )
        rows = session.execute(query).all()
    serialized = [
        _serialize_worker(row[0], row[1], jobs_by_worker.get(row[0].name, [])) for row in rows
    ]
    return paginate_list(serialized, page_query)


def _serialize_worker(worker: Worker, alive: bool, job_ids: list[str | None]) -> dict[str, Any]:
    return {
        "name": worker.name,
        "object": "worker",
        "queue": worker.queue,
        "alive": alive,
        "busy": alive and bool(job_ids),
        "jobs": [job for job in job_ids if job] if alive else [],
        "missing_disk_bytes": worker.missing_disk_bytes,
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
    }
