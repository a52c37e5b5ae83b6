"""Teachers' kept answers: what a project keeps, what it was good for, and how to drop it."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter, JobWriter, Reader
from api.http.idempotency import KEYED, once
from api.http.pagination import PageAsked, page
from api.http.responses import reply
from api.http.router import router
from api.jobs.routes import create, validated
from api.jobs.schemas import JobOut, Validated
from api.jobs.validation import AdmittingRoute
from api.teacher_caches.schemas import TeacherCacheOut, TeacherCachePage
from kdcore.schema.job import JobSpec
from store.database import transaction
from store.tables import TeacherCache

teacher_caches = router("/teacher-caches", "teacher caches")
warming = router("/teacher-caches", "teacher caches")
warming.route_class = AdmittingRoute

_SHOWN = (
    *("id", "key", "dataset_id", "seed", "augmentation", "view", "num_samples", "size_bytes"),
    *("sha256", "job_id", "hits", "created_at", "used_at"),
)


def show(row: TeacherCache) -> dict[str, Any]:
    """Kept answers as answers carry them."""
    return {
        "object": "teacher_cache",
        **{name: getattr(row, name) for name in _SHOWN},
        "teacher": row.model_id,
        "asked_s": row.seconds,
        "saved_s": row.seconds * row.hits,
        "links": {"self": f"/v1/teacher-caches/{row.id}"},
    }


@warming.post(
    "/warm",
    status_code=201,
    dependencies=KEYED,
    response_model=JobOut,
    responses={200: {"model": Validated, "description": "validate_only: nothing is stored"}},
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
            return validated(session, body, caller, "warm")
        return once(
            session, request, caller.project_id, lambda: create(session, body, caller, "warm")
        )


@teacher_caches.get("", response_model=TeacherCachePage)
def list_teacher_caches(
    caller: Reader,
    asked: PageAsked,
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
        return page(session, query, show, asked)


@teacher_caches.get("/{cache_id}", response_model=TeacherCacheOut)
def get_teacher_cache(cache_id: str, caller: Reader) -> Response:
    """The answers about one view."""
    with transaction() as session:
        return reply(show(scoping.get(session, TeacherCache, cache_id, caller)))


@teacher_caches.delete("/{cache_id}", status_code=204, response_class=Response)
def delete_teacher_cache(cache_id: str, caller: DataWriter) -> Response:
    """Forget kept answers; a job that needs them asks its teacher again.

    The bytes go with the keeper's next rounds. A worker that has them in its work folder may store
    them again when its next job uses them.
    """
    with transaction() as session:
        session.delete(scoping.get(session, TeacherCache, cache_id, caller, lock=True))
    return Response(status_code=204)
