"""Usage of a project: jobs by state, device seconds, stored bytes."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Numeric, func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.responses import json_response
from api.http.routing import v1_router
from store.database import read_session
from store.tables import Artifact, Checkpoint, Dataset, Job, Model, TeacherCache

router = v1_router("/usage", "admin")

_STORAGE_COLUMNS: dict[str, tuple[Any, Any]] = {
    "datasets": (Dataset.project_id, Dataset.size_bytes),
    # The weights, and the ONNX file for predictions.
    "models": (
        Model.project_id,
        func.coalesce(Model.size_bytes, 0).cast(Numeric) + func.coalesce(Model.onnx_size_bytes, 0),
    ),
    "artifacts": (Artifact.project_id, Artifact.size_bytes),
    "checkpoints": (Checkpoint.project_id, Checkpoint.size_bytes),
    "teacher_caches": (TeacherCache.project_id, TeacherCache.size_bytes),
}


class UsageOut(BaseModel):
    """Compute and storage that a project uses."""

    object: Literal["usage"]
    jobs: dict[str, int] = Field(description="Number of jobs by state")
    device_s: float = Field(description="Device seconds of all jobs")
    storage_bytes: dict[str, int] = Field(
        description="Stored bytes by kind, and their total; bytes that rows share count repeatedly"
    )


@router.get("", response_model=UsageOut)
def get_usage(caller: JobReader) -> Response:
    """Get the project's jobs by state, device seconds and stored bytes."""
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
