"""Actions on a job: cancel, pause, resume, retry."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobWriter
from api.http.problems import ConflictError
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs import serializers
from api.jobs.continuation import continues_from
from api.jobs.schemas import JobOut
from store import jobs
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Job, Model

router = v1_router("/jobs/{job_id}", "jobs")


def _accepted_response(action: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": JobOut, "description": f"The worker of the job will {action}"}}


@router.post("/cancel", response_model=JobOut, responses=_accepted_response("stop it"))
def cancel_job(job_id: str, caller: JobWriter) -> Response:
    """Cancel a job: immediately if no worker runs it, else after its worker has stopped it.

    A job whose training finishes before that succeeds.
    """
    return _apply_action(job_id, caller, jobs.cancel)


@router.post(
    "/pause", response_model=JobOut, responses=_accepted_response("write a checkpoint and stop it")
)
def pause_job(job_id: str, caller: JobWriter) -> Response:
    """Pause a job: immediately if it is queued, else after its worker has written a checkpoint."""
    return _apply_action(job_id, caller, jobs.pause)


@router.post("/resume", response_model=JobOut)
def resume_job(job_id: str, caller: JobWriter) -> Response:
    """Queue a paused job, which continues from its checkpoint.

    With the determinism `strict`, the student is the same as without the pause.
    """
    return _apply_action(job_id, caller, jobs.resume)


@router.post("/retry", response_model=JobOut)
def retry_job(job_id: str, caller: JobWriter) -> Response:
    """Queue a failed job, which continues from its last checkpoint if it has one.

    If the job reached one of its `limits`, raise that limit first with `PATCH`.
    """

    def retry(session: Session, row: Job) -> None:
        jobs.retry(session, row)
        _require_retryable(session, row, caller)

    return _apply_action(job_id, caller, retry)


def _require_retryable(session: Session, row: Job, caller: Principal) -> None:
    """Raise a ``ConflictError`` if another run could not succeed.

    Since the job failed, its models may have been deleted, and another job may continue from it.
    """
    for name, limit in (row.resolved.get("limits") or {}).items():
        if limit is not None and row.device_s >= limit:
            detail = (
                f"the job used {row.device_s:.1f} s of limits.{name} = {limit:g}: raise it first"
            )
            raise ConflictError("limit_reached", detail, current_state="failed")
    dependent_id = session.scalar(select(Job.id).where(continues_from(row.id)).limit(1))
    if dependent_id is not None:
        detail = f"{dependent_id} continues from the job: cancel it, or wait until it has ended"
        raise ConflictError("in_use", detail, current_state="failed")
    earlier_id = (row.spec.get("from") or {}).get("job")
    models = {
        model_id: scoping.get_or_none(session, Model, model_id, caller, lock="share")
        for model_id in row.model_ids
    }
    missing = [model for model, model_row in models.items() if model_row is None]
    if (
        earlier_id is not None
        and scoping.get_or_none(session, Job, earlier_id, caller, lock="share") is None
    ):
        missing.append(earlier_id)
    if missing:
        detail = f"the job needs {', '.join(missing)}, which was deleted; post a new job"
        raise ConflictError("source_gone", detail, current_state="failed")


def _apply_action(
    job_id: str, caller: Principal, action: Callable[[Session, Job], bool | None]
) -> Response:
    with transaction() as session:
        row = scoping.get_or_404(session, Job, job_id, caller, lock=True)
        completed = action(session, row)
        session.flush()
        session.refresh(row)
        return json_response(
            serializers.serialize_job(session, row), 202 if completed is False else 200
        )
