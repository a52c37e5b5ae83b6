"""What becomes of a data set or a model when the job that opens its bytes ends."""

from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from store.tables import Dataset, Job, Model


def settle(session: Session, job: Job) -> None:
    """Make the resource that an ended ingestion or verification worked for ready or failed."""
    if job.kind == "ingest" and job.dataset_id:
        _settle(session.get_one(Dataset, job.dataset_id), job)
    if job.kind == "verify" and job.model_id:
        _settle(session.get_one(Model, job.model_id), job)


def _settle(asset: Dataset | Model, job: Job) -> None:
    if job.state == "succeeded":
        for name, value in (job.result or {}).items():
            setattr(asset, name, value)
        asset.ready_at = func.clock_timestamp()
        asset.state = "ready"
    else:
        asset.error = _public(job.error) or {
            "code": "cancelled",
            "message": "it was cancelled before its bytes were opened",
            "items": [],
        }
        asset.state = "failed"
    asset.rev += 1


def _public(error: dict[str, Any] | None) -> dict[str, Any] | None:
    return error and {name: error.get(name) for name in ("code", "message", "hint", "items")}
