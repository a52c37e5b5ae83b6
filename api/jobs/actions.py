"""What can be wished of a job that is stored: cancel, pause, resume, retry."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobWriter
from api.http.problems import ConflictError
from api.http.responses import json_response
from api.http.router import v1_router
from api.jobs import serializers
from api.jobs.continuation import continues_from
from api.jobs.schemas import JobOut
from store import jobs
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Job, Model

actions_router = v1_router("/jobs/{job_id}", "jobs")


def _accepted_response(action: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": JobOut, "description": f"Its worker has been told to {action}"}}


@actions_router.post("/cancel", response_model=JobOut, responses=_accepted_response("end it"))
def cancel_job(job_id: str, caller: JobWriter) -> Response:
    """Cancel: at once where no worker has the job, else as soon as its worker has let go of it.

    A job whose engine has finished by then has succeeded: what is done is not thrown away.
    """
    return _apply_action(job_id, caller, jobs.cancel)


@actions_router.post(
    "/pause", response_model=JobOut, responses=_accepted_response("write a checkpoint and let go")
)
def pause_job(job_id: str, caller: JobWriter) -> Response:
    """Let a job rest: at once where it waits, else as soon as its worker has a checkpoint of it."""
    return _apply_action(job_id, caller, jobs.pause)


@actions_router.post("/resume", response_model=JobOut)
def resume_job(job_id: str, caller: JobWriter) -> Response:
    """Let a paused job go on from its checkpoint. Under `strict` its student is the same."""
    return _apply_action(job_id, caller, jobs.resume)


@actions_router.post("/retry", response_model=JobOut)
def retry_job(job_id: str, caller: JobWriter) -> Response:
    """Give a failed job another run, from its last checkpoint if there is one.

    A job that has used up what its limits allow is given more first: ``PATCH`` its ``limits``.
    """

    def retry(session: Session, row: Job) -> None:
        jobs.retry(session, row)
        _require_retryable(session, row, caller)

    return _apply_action(job_id, caller, retry)


def _require_retryable(session: Session, row: Job, caller: Principal) -> None:
    """As long as a job is over, others may go on from it, and what it needs may be deleted.

    Nor does a run help that ends at its first step.
    """
    for name, limit in (row.resolved.get("limits") or {}).items():
        if limit is not None and row.device_s >= limit:
            detail = (
                f"limits.{name} is {limit:g}, and {row.device_s:.1f} s are used: raise it first"
            )
            raise ConflictError("limit_reached", detail, current_state="failed")
    dependent_id = session.scalar(select(Job.id).where(continues_from(row.id)).limit(1))
    if dependent_id is not None:
        detail = (
            f"{dependent_id} goes on from its checkpoints: cancel that one, or wait until it "
            "has ended"
        )
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
        detail = f"{', '.join(missing)}, which it needs, was deleted; post the job anew"
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
