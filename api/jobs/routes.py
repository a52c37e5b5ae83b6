"""Jobs: posted, listed, changed, cancelled, deleted."""

from collections.abc import Iterator
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import Header, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session, undefer
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import JobReader, JobWriter
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, CreatedResource, run_idempotent
from api.http.notifications import Broadcaster
from api.http.pagination import PageQuery, PageQueryDep, paginate
from api.http.problems import ConflictError, InvalidRequestError, ProblemError
from api.http.responses import etag_response, if_match, json_response
from api.http.router import v1_router
from api.jobs import serializers, stream
from api.jobs.continuation import continues_from
from api.jobs.estimate import estimate_job
from api.jobs.filters import JobFilters, JobFiltersDep
from api.jobs.schemas import JobOut, JobPage, JobUpdate, JobValidation
from api.jobs.validation import JobBodyRoute, validate_job
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.validation.errors import ValidationIssue
from store import event_log, outbox
from store import jobs as transitions
from store.access.credentials import Principal
from store.database import read_session, transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Job

jobs_router = v1_router("/jobs", "jobs")
job_creation_router = v1_router("/jobs", "jobs")
job_creation_router.route_class = JobBodyRoute


@job_creation_router.post(
    "",
    status_code=201,
    dependencies=IDEMPOTENCY_DEPENDENCIES,
    response_model=JobOut,
    responses={200: {"model": JobValidation, "description": "validate_only: nothing is stored"}},
)
def create_job(
    body: JobSpec,
    request: Request,
    caller: JobWriter,
    validate_only: Annotated[bool, Query(description="Check and resolve only")] = False,
) -> Response:
    """Store a job and have a worker take it. All faults of the request come in one answer."""
    with transaction() as session:
        if validate_only:
            return validation_response(session, body, caller)
        answer = run_idempotent(
            session, request, caller.project_id, lambda: create_job_row(session, body, caller)
        )
        failpoint("api.stored")
    failpoint("api.committed")
    return answer


def validation_response(
    session: Session, body: JobSpec, caller: Principal, kind: Literal["warm"] | None = None
) -> Response:
    """What :func:`create` would store, and what is known of it; it raises the same, and stores
    nothing."""
    validated_job = validate_job(session, body, caller)
    _check_cacheable(validated_job.resolved, kind)
    return json_response(
        {
            "resolved": validated_job.resolved.model_dump(mode="json"),
            "estimate": estimate_job(session, caller.project_id, validated_job),
            "warnings": validated_job.warnings,
            "methods": serializers.serialize_method_compatibility(validated_job.incompatibilities),
        }
    )


def create_job_row(
    session: Session, body: JobSpec, caller: Principal, kind: Literal["warm"] | None = None
) -> CreatedResource:
    """A job's row; one of the kind `warm` only asks what the same job would ask its teachers."""
    resolved = validate_job(session, body, caller).resolved
    _check_cacheable(resolved, kind)
    require_queue_capacity(session, caller)
    init = [] if resolved.student.init in ("random", "pretrained") else [resolved.student.init]
    row = transitions.create(
        session,
        Job(
            id=new_id("job"),
            project_id=caller.project_id,
            kind=kind or body.kind,
            queue="train",
            name=resolved.name,
            labels=dict(body.labels),
            priority=body.priority,
            spec=body.model_dump(mode="json"),
            resolved=resolved.model_dump(mode="json"),
            dataset_id=body.dataset,
            model_ids=[*(teacher.model for teacher in body.teachers), *init],
            architecture=resolved.student.architecture,
            methods=[method.type for method in resolved.method],
            summary={},
        ),
    )
    session.flush()
    session.refresh(row)
    return CreatedResource(serializers.serialize_job(session, row), f"/v1/jobs/{row.id}")


def _check_cacheable(resolved: ResolvedJob, kind: Literal["warm"] | None) -> None:
    if kind == "warm" and (issues := list(_cache_issues(resolved))):
        raise InvalidRequestError(issues)


def _cache_issues(job: ResolvedJob) -> Iterator[ValidationIssue]:
    """Why a job keeps none of its teachers' answers."""
    if job.training.views == "fresh":
        detail = "fresh views never come again: say how many there shall be"
        yield ValidationIssue(pointer="/training/views", code="fresh_views", detail=detail)
    if not job.teachers:
        detail = "there is nobody to be asked: name a teacher"
        yield ValidationIssue(pointer="/teachers", code="teacher_required", detail=detail)


def require_queue_capacity(session: Session, caller: Principal) -> None:
    """Refuse a job where too many wait already."""
    max_queued = settings().max_queued
    if outbox.count_queued(session, caller.project_id, scoping.TRAIN_QUEUE) >= max_queued:
        detail = f"{max_queued} jobs of this project wait already; post more when some have started"
        raise ProblemError(429, "queue_full", detail, headers={"Retry-After": "30"})


@jobs_router.get(
    "",
    response_model=JobPage,
    responses={
        200: {
            "description": "A page of jobs, or the stream of changes",
            "content": sse.OPENAPI_CONTENT,
        }
    },
)
async def list_jobs(  # noqa: PLR0913 - each is a part of the query
    request: Request,
    caller: JobReader,
    page_query: PageQueryDep,
    filters: JobFiltersDep,
    sort: Annotated[
        Literal["-created_at", "created_at", "queue"],
        Query(description="`queue`: the order in which jobs of one project start"),
    ] = "-created_at",
    after: Annotated[
        int | None, Query(ge=0, le=2**62, description="Where a stream goes on")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same, as a header")] = None,
) -> Response:
    """Jobs that users posted, the newest first; as a stream, each job of the project as it changes.

    The stream takes no filters. It begins with a `snapshot`, then sends a `job` whenever one has
    changed, or `reload` where more changed than it tells of. It ends with the connection.
    """
    if sse.accepts_stream(request):
        broadcaster: Broadcaster = request.app.state.broadcaster
        position = sse.resume_position(last_event_id, after)
        return sse.stream_response(
            request, stream.stream_changed_jobs(broadcaster, caller.project_id, position)
        )
    return await anyio.to_thread.run_sync(_list, caller, page_query, filters, sort)


def _list(caller: Principal, page_query: PageQuery, filters: JobFilters, sort: str) -> Response:
    project_jobs = (Job.project_id == caller.project_id, Job.queue == scoping.TRAIN_QUEUE)
    with transaction() as session:
        queue_status = outbox.QueueStatus(session)
        return paginate(
            session,
            select(Job).options(undefer(Job.runtime)).where(*project_jobs, *filters.conditions),
            lambda row: serializers.serialize_job(session, row, queue_status),
            page_query,
            descending=sort.startswith("-"),
            leading_column="priority" if sort == "queue" else None,
        )


@jobs_router.get("/{job_id}", response_model=JobOut)
def get_job(job_id: str, request: Request, caller: JobReader) -> Response:
    """One job: as posted, as resolved, how far it is, and how it ended."""
    with read_session() as session:
        row = scoping.get_or_404(session, Job, job_id, caller)
        serialized = serializers.serialize_job(session, row)
        return etag_response(request, serialized, serializers.job_etag(row, serialized))


@jobs_router.patch("/{job_id}", response_model=JobOut)
def update_job(job_id: str, body: JobUpdate, request: Request, caller: JobWriter) -> Response:
    """Change name, labels, priority, limits; with ``If-Match``, only the version that you saw.

    Limits hold from the next run on: a job that reached one may be given more, and then retried.
    """
    with transaction() as session:
        row = scoping.get_or_404(session, Job, job_id, caller, lock=True)
        if not if_match(request, row.rev):
            raise ProblemError(412, "precondition_failed", "the job has changed; get it again")
        updates = body.model_dump(mode="json", exclude_none=True, exclude={"limits"})
        for name, value in updates.items():
            setattr(row, name, value)
        if body.limits is not None:
            new_limits = body.limits.model_dump(mode="json", exclude_unset=True)
            updates["limits"] = (row.resolved.get("limits") or {}) | new_limits
        row.spec = {**row.spec, **updates}
        row.resolved = {**row.resolved, **updates}
        row.rev += 1
        event_log.append(session, row, "changed", updates)
        session.flush()
        serialized = serializers.serialize_job(session, row)
        return etag_response(request, serialized, serializers.job_etag(row, serialized))


@jobs_router.delete("/{job_id}", status_code=204, response_class=Response)
def delete_job(job_id: str, caller: JobWriter) -> Response:
    """Delete a job that has ended, with its events, metrics and artifacts.

    Not while an unfinished job goes on from it (``from``).
    """
    with transaction() as session:
        row = scoping.get_or_404(session, Job, job_id, caller, lock=True)
        dependent_id = session.scalar(select(Job.id).where(continues_from(row.id)).limit(1))
        if dependent_id is not None:
            detail = f"{dependent_id} goes on from it: cancel that one, or wait until it has ended"
            raise ConflictError("in_use", detail, current_state=row.state)
        transitions.delete(session, row)
    return Response(status_code=204)
