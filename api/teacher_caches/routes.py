"""Teachers' kept answers: what a project keeps, what it was good for, and how to drop it."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter, JobReader, JobWriter
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, run_idempotent
from api.http.pagination import PageQueryDep, paginate
from api.http.responses import json_response
from api.http.router import v1_router
from api.jobs.routes import create_job_row, validation_response
from api.jobs.schemas import JobOut, JobValidation
from api.jobs.validation import JobBodyRoute
from api.teacher_caches.schemas import TeacherCacheOut, TeacherCachePage
from kdcore.schema.job import JobSpec
from store.database import transaction
from store.tables import TeacherCache

teacher_caches_router = v1_router("/teacher-caches", "teacher caches")
cache_warming_router = v1_router("/teacher-caches", "teacher caches")
cache_warming_router.route_class = JobBodyRoute

_FIELDS = (
    *("id", "key", "dataset_id", "seed", "augmentation", "view", "num_samples", "size_bytes"),
    *("sha256", "job_id", "hits", "created_at", "used_at"),
)


def serialize_teacher_cache(row: TeacherCache) -> dict[str, Any]:
    """Kept answers as answers carry them."""
    return {
        "object": "teacher_cache",
        **{name: getattr(row, name) for name in _FIELDS},
        "teacher": row.model_id,
        "fill_s": row.fill_s,
        "saved_s": row.fill_s * row.hits,
        "links": {"self": f"/v1/teacher-caches/{row.id}"},
    }


@cache_warming_router.post(
    "/warm",
    status_code=201,
    dependencies=IDEMPOTENCY_DEPENDENCIES,
    response_model=JobOut,
    responses={200: {"model": JobValidation, "description": "validate_only: nothing is stored"}},
)
def warm_teacher_cache(
    body: JobSpec,
    request: Request,
    caller: JobWriter,
    validate_only: Annotated[bool, Query(description="Check and resolve only")] = False,
) -> Response:
    """Ask now what a job would ask: the body is that job, with its number of views.

    What comes back is a job of the kind `warm`, which can be watched, paused and cancelled as any
    other. When it has succeeded, the job itself asks its teachers nothing.
    """
    with transaction() as session:
        if validate_only:
            return validation_response(session, body, caller, "warm")
        return run_idempotent(
            session,
            request,
            caller.project_id,
            lambda: create_job_row(session, body, caller, "warm"),
        )


@teacher_caches_router.get("", response_model=TeacherCachePage)
def list_teacher_caches(
    caller: JobReader,
    page_query: PageQueryDep,
    teacher: Annotated[str | None, Query(description="Id of a model")] = None,
    dataset: Annotated[str | None, Query(description="Id of a data set")] = None,
) -> Response:
    """Kept answers, the newest first: one for each view of a teacher and a data set."""
    with transaction() as session:
        query = select(TeacherCache).where(TeacherCache.project_id == caller.project_id)
        if teacher is not None:
            query = query.where(TeacherCache.model_id == teacher)
        if dataset is not None:
            query = query.where(TeacherCache.dataset_id == dataset)
        return paginate(session, query, serialize_teacher_cache, page_query)


@teacher_caches_router.get("/{cache_id}", response_model=TeacherCacheOut)
def get_teacher_cache(cache_id: str, caller: JobReader) -> Response:
    """The answers about one view."""
    with transaction() as session:
        return json_response(
            serialize_teacher_cache(scoping.get_or_404(session, TeacherCache, cache_id, caller))
        )


@teacher_caches_router.delete("/{cache_id}", status_code=204, response_class=Response)
def delete_teacher_cache(cache_id: str, caller: DataWriter) -> Response:
    """Forget kept answers; a job that needs them asks its teacher again.

    The bytes go with the keeper's next rounds. A worker that has them in its work folder may store
    them again when its next job uses them.
    """
    with transaction() as session:
        session.delete(scoping.get_or_404(session, TeacherCache, cache_id, caller, lock=True))
    return Response(status_code=204)
