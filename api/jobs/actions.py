"""What can be wished of a job that is stored: cancel, pause, resume, retry."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobWriter
from api.http.problems import Conflict
from api.http.responses import reply
from api.http.router import router
from api.jobs import serializers
from api.jobs.continuation import continued_by
from api.jobs.schemas import JobOut
from store import jobs
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Job, Model

wishes = router("/jobs/{job_id}", "jobs")


def _told(what: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": JobOut, "description": f"Its worker has been told to {what}"}}


@wishes.post("/cancel", response_model=JobOut, responses=_told("end it"))
def cancel_job(job_id: str, caller: JobWriter) -> Response:
    """Cancel: at once where no worker has the job, else as soon as its worker has let go of it.

    A job whose engine has finished by then has succeeded: what is done is not thrown away.
    """
    return _wish(job_id, caller, jobs.cancel)


@wishes.post("/pause", response_model=JobOut, responses=_told("write a checkpoint and let go"))
def pause_job(job_id: str, caller: JobWriter) -> Response:
    """Let a job rest: at once where it waits, else as soon as its worker has a checkpoint of it."""
    return _wish(job_id, caller, jobs.pause)


@wishes.post("/resume", response_model=JobOut)
def resume_job(job_id: str, caller: JobWriter) -> Response:
    """Let a paused job go on from its checkpoint. Under `strict` its student is the same."""
    return _wish(job_id, caller, jobs.resume)


@wishes.post("/retry", response_model=JobOut)
def retry_job(job_id: str, caller: JobWriter) -> Response:
    """Give a failed job another run, from its last checkpoint if there is one.

    A job that has used up what its limits allow is given more first: ``PATCH`` its ``limits``.
    """

    def act(session: Session, row: Job) -> None:
        jobs.retry(session, row)
        _possible(session, row, caller)

    return _wish(job_id, caller, act)


def _possible(session: Session, row: Job, caller: Principal) -> None:
    """As long as a job is over, others may go on from it, and what it needs may be deleted.

    Nor does a run help that ends at its first step.
    """
    for name, most in (row.resolved.get("limits") or {}).items():
        if most is not None and row.device_s >= most:
            detail = f"limits.{name} is {most:g}, and {row.device_s:.1f} s are used: raise it first"
            raise Conflict("limit_reached", detail, current_state="failed")
    user = session.scalar(select(Job.id).where(continued_by(row.id)).limit(1))
    if user is not None:
        detail = f"{user} goes on from its checkpoints: cancel that one, or wait until it has ended"
        raise Conflict("in_use", detail, current_state="failed")
    earlier = (row.spec.get("from") or {}).get("job")
    kept = {each: scoping.find(session, Model, each, caller, hold="kept") for each in row.model_ids}
    gone = [model for model, found in kept.items() if found is None]
    if earlier is not None and scoping.find(session, Job, earlier, caller, hold="kept") is None:
        gone.append(earlier)
    if gone:
        detail = f"{', '.join(gone)}, which it needs, was deleted; post the job anew"
        raise Conflict("source_gone", detail, current_state="failed")


def _wish(job_id: str, caller: Principal, act: Callable[[Session, Job], bool | None]) -> Response:
    with transaction() as session:
        row = scoping.get(session, Job, job_id, caller, lock=True)
        done = act(session, row)
        session.flush()
        session.refresh(row)
        return reply(serializers.job(session, row), 202 if done is False else 200)
