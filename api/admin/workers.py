"""Who works, and what a project has used."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import Reader
from api.http.pagination import Page, PageAsked, page_of
from api.http.responses import reply
from api.http.router import router
from store.database import reading
from store.outbox import alive_since
from store.tables import Artifact, Checkpoint, Dataset, Job, Model, TeacherCache, Worker

workers = router("/workers", "fleet")
usage = router("/usage", "fleet")

_STORED: dict[str, tuple[Any, Any]] = {
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
    """A worker of one lane: it does as many jobs at a time as it has slots."""

    name: str
    object: Literal["worker"]
    lane: Literal["train", "prepare"]
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


@workers.get("", response_model=WorkerPage)
def list_workers(caller: Reader, asked: PageAsked) -> Response:
    """The fleet as it was last heard of. Jobs of other projects are not named."""
    alive = Worker.seen_at > alive_since()
    query = select(Worker, alive).order_by(alive.desc(), Worker.lane, Worker.name)
    own = (Job.project_id == caller.project_id) & (Job.lane == scoping.LANE)
    holding = select(Job.lease_owner, Job.id, own).where(Job.lease_owner.is_not(None))
    with reading() as session:
        held: dict[str, list[str | None]] = {}
        for owner, job, visible in session.execute(holding.order_by(Job.started_at)):
            # A lease names the worker and, behind a slash, the process of one of its slots.
            held.setdefault(str(owner).rpartition("/")[0], []).append(job if visible else None)
        rows = session.execute(query).all()
    shown = [_worker(row[0], row[1], held.get(row[0].name, [])) for row in rows]
    return page_of(shown, asked)


def _worker(worker: Worker, alive: bool, held: list[str | None]) -> dict[str, Any]:
    return {
        "name": worker.name,
        "object": "worker",
        "lane": worker.lane,
        "alive": alive,
        "busy": alive and bool(held),
        "jobs": [job for job in held if job] if alive else [],
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
    }


@usage.get("", response_model=UsageOut)
def get_usage(caller: Reader) -> Response:
    """Jobs by state, device seconds, bytes stored."""
    with reading() as session:
        own = (Job.project_id == caller.project_id, Job.lane == scoping.LANE)
        counted = select(Job.state, func.count(), func.sum(Job.device_s)).where(*own)
        states = session.execute(counted.group_by(Job.state)).all()
        stored = {
            kind: _bytes(session, *columns, caller.project_id) for kind, columns in _STORED.items()
        }
    return reply(
        {
            "object": "usage",
            "jobs": {row[0]: row[1] for row in states},
            "device_s": round(sum(row[2] for row in states), 3),
            "storage_bytes": stored | {"total": sum(stored.values())},
        }
    )


def _bytes(session: Session, owner: Any, size: Any, project_id: str) -> int:
    query = select(func.sum(size)).where(owner == project_id)
    return int(session.scalar(query) or 0)
