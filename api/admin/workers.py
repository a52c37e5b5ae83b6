"""Who works, and what a project has used."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.pagination import Page, PageQueryDep, paginate_list
from api.http.responses import json_response
from api.http.router import v1_router
from store.database import read_session
from store.outbox import liveness_cutoff
from store.tables import Artifact, Checkpoint, Dataset, Job, Model, TeacherCache, Worker

workers_router = v1_router("/workers", "fleet")
usage_router = v1_router("/usage", "fleet")

_STORAGE_COLUMNS: dict[str, tuple[Any, Any]] = {
    "datasets": (Dataset.project_id, Dataset.size_bytes),
    # Weights, and the ONNX file that predictions are made with.
    "models": (
        Model.project_id,
        func.coalesce(Model.size_bytes, 0) + func.coalesce(Model.onnx_size_bytes, 0),
    ),
    "artifacts": (Artifact.project_id, Artifact.size_bytes),
    "checkpoints": (Checkpoint.project_id, Checkpoint.size_bytes),
    "teacher_caches": (TeacherCache.project_id, TeacherCache.size_bytes),
}


class WorkerOut(BaseModel):
    """A worker of one queue: it does as many jobs at a time as it has slots."""

    name: str
    object: Literal["worker"]
    queue: Literal["train", "prepare"]
    alive: bool = Field(description="Whether it was heard of within a lease")
    busy: bool
    jobs: list[str] = Field(description="What it works on, of this project's jobs")
    started_at: str
    seen_at: str


class WorkerPage(Page):
    """Workers, the living ones first."""

    data: list[WorkerOut]


class UsageOut(BaseModel):
    """What a project has used, and what lies stored for it."""

    object: Literal["usage"]
    jobs: dict[str, int] = Field(description="Jobs by state")
    device_s: float = Field(description="Seconds of a device, all jobs together")
    storage_bytes: dict[str, int] = Field(
        description="By kind, and the total; bytes that two rows share are counted twice"
    )


@workers_router.get("", response_model=WorkerPage)
def list_workers(caller: JobReader, page_query: PageQueryDep) -> Response:
    """The fleet as it was last heard of. Jobs of other projects are not named."""
    alive = Worker.seen_at > liveness_cutoff()
    query = select(Worker, alive).order_by(alive.desc(), Worker.queue, Worker.name)
    in_project = (Job.project_id == caller.project_id) & (Job.queue == scoping.TRAIN_QUEUE)
    leases = select(Job.lease_owner, Job.id, in_project).where(Job.lease_owner.is_not(None))
    with read_session() as session:
        jobs_by_worker: dict[str, list[str | None]] = {}
        for owner, job, visible in session.execute(leases.order_by(Job.started_at)):
            # A lease names the worker and, behind a slash, the process of one of its slots.
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
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
    }


@usage_router.get("", response_model=UsageOut)
def get_usage(caller: JobReader) -> Response:
    """Jobs by state, device seconds, bytes stored."""
    with read_session() as session:
        project_jobs = (Job.project_id == caller.project_id, Job.queue == scoping.TRAIN_QUEUE)
        states_query = select(Job.state, func.count(), func.sum(Job.device_s)).where(*project_jobs)
        states = session.execute(states_query.group_by(Job.state)).all()
        storage_bytes = {
            kind: _total_bytes(session, *columns, caller.project_id)
            for kind, columns in _STORAGE_COLUMNS.items()
        }
    return json_response(
        {
            "object": "usage",
            "jobs": {row[0]: row[1] for row in states},
            "device_s": round(sum(row[2] for row in states), 3),
            "storage_bytes": storage_bytes | {"total": sum(storage_bytes.values())},
        }
    )


def _total_bytes(session: Session, owner: Any, size: Any, project_id: str) -> int:
    query = select(func.sum(size)).where(owner == project_id)
    return int(session.scalar(query) or 0)
