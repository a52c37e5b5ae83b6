"""Teacher caches: stored outputs of teachers, which later jobs reuse."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter, JobReader, JobWriter
from api.http.idempotency import idempotent_post, run_idempotent
from api.http.pagination import Page, PageQueryDep
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs.schemas import VALIDATION_RESPONSES, JobOut, ValidateOnly
from api.jobs.service import create_job_row, validation_result
from api.jobs.validation import JobBodyRoute
from kdcore.schema.job import JobSpec
from kdcore.schema.job_kinds import CACHE_FILL_KIND
from store.database import transaction
from store.tables import TeacherCache

router = v1_router("/teacher-caches", "teacher caches")


class TeacherCacheOut(BaseModel):
    """The stored outputs of a teacher for one view of a data set's training images."""

    object: Literal["teacher_cache"]
    id: str
    key: str = Field(description="Digest of everything that the outputs depend on")
    teacher: str = Field(description="Id of the model, which may be deleted by now")
    dataset_id: str
    seed: int
    augmentation: Any
    view: int = Field(description="Number of the view, from 1")
    num_samples: int
    size_bytes: int
    sha256: str
    job_id: str = Field(description="The job whose run computed the outputs")
    fill_s: float = Field(description="Seconds that the teacher took to compute the outputs")
    hits: int = Field(description="Number of runs of other jobs that used the cache")
    saved_s: float = Field(description="Teacher seconds that those runs saved: fill_s times hits")
    created_at: datetime
    used_at: datetime
    links: dict[str, str]


class TeacherCachePage(Page[TeacherCacheOut]):
    """Teacher caches, the newest first."""


_FIELDS = (
    *("id", "key", "dataset_id", "seed", "augmentation", "view", "num_samples", "size_bytes"),
    *("sha256", "job_id", "fill_s", "hits", "created_at", "used_at"),
)


def serialize_teacher_cache(row: TeacherCache) -> dict[str, Any]:
    """The body of a ``TeacherCacheOut``."""
    return {
        "object": "teacher_cache",
        **{name: getattr(row, name) for name in _FIELDS},
        "teacher": row.model_id,
        "saved_s": row.fill_s * row.hits,
        "links": {"self": f"/v1/teacher-caches/{row.id}"},
    }


@idempotent_post(
    router,
    "/warm",
    response_model=JobOut,
    route_class=JobBodyRoute,
    responses=VALIDATION_RESPONSES,
)
def warm_teacher_cache(
    body: JobSpec, request: Request, caller: JobWriter, validate_only: ValidateOnly = False
) -> Response:
    """Fill the teacher caches of a job in advance. The body is that job, with its `views`.

    The response is a job of the kind `warm`, with the same actions as any other. After it has
    succeeded, the original job reads all teacher outputs from the cache.
    """
    if validate_only:
        with transaction() as session:
            return json_response(validation_result(session, body, caller, CACHE_FILL_KIND))
    return run_idempotent(
        request, caller, lambda session: create_job_row(session, body, caller, CACHE_FILL_KIND)
    )


@router.get("", response_model=TeacherCachePage)
def list_teacher_caches(
    caller: JobReader,
    page_query: PageQueryDep,
    teacher: Annotated[str | None, Query(description="Id of the teacher's model")] = None,
    dataset: Annotated[str | None, Query(description="Id of the data set")] = None,
) -> Response:
    """List teacher caches, the newest first: one for each view of a teacher and a data set."""
    filters = {TeacherCache.model_id: teacher, TeacherCache.dataset_id: dataset}
    conditions = [column == value for column, value in filters.items() if value is not None]
    return scoping.list_rows(TeacherCache, caller, page_query, serialize_teacher_cache, *conditions)


@router.get("/{cache_id}", response_model=TeacherCacheOut)
def get_teacher_cache(cache_id: str, caller: JobReader) -> Response:
    """Get the teacher cache of one view."""
    with transaction() as session:
        return json_response(
            serialize_teacher_cache(scoping.get_or_404(session, TeacherCache, cache_id, caller))
        )


@router.delete("/{cache_id}", status_code=204, response_class=Response)
def delete_teacher_cache(cache_id: str, caller: DataWriter) -> Response:
    """Delete a teacher cache. A job that needs its outputs computes them again.

    Maintenance deletes the bytes later. A worker that still has them on its disk may store them
    again for its next job.
    """
    with transaction() as session:
        session.delete(scoping.get_or_404(session, TeacherCache, cache_id, caller, lock=True))
    return Response(status_code=204)
