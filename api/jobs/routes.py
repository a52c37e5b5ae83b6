"""Jobs: create, list with filters, get, change and delete."""

from typing import Annotated, Literal

import anyio.to_thread
from fastapi import Depends, Query, Request
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session, undefer
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import JobReader, JobWriter
from api.http.etag import etag_response, if_match
from api.http.idempotency import CreatedResource, idempotent_post, run_idempotent
from api.http.notifications import Broadcaster
from api.http.pagination import PageQuery, PageQueryDep, paginate
from api.http.problems import InvalidRequestError, ProblemError
from api.http.query import QueryTime
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs.events import stream_changed_jobs
from api.jobs.schemas import (
    VALIDATION_RESPONSES,
    JobOut,
    JobPage,
    JobUpdate,
    ValidateOnly,
)
from api.jobs.serializers import job_etag, serialize_job
from api.jobs.service import create_job_row, delete_job_row, update_job_row, validation_result
from api.jobs.validation import JobBodyRoute
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.job import JobSpec
from kdcore.schema.job_kinds import TrainKind
from store.access.credentials import Principal
from store.database import read_session, transaction
from store.jobs import queue_position
from store.tables import Job
from store.tables.runs import JobState

router = v1_router("/jobs", "jobs")
LOAD_RUNTIME = (undefer(Job.runtime),)

TextFilter = Annotated[str | None, Query(max_length=200)]
IdFilter = Annotated[str | None, Query(max_length=64)]
StateFilter = Annotated[list[JobState] | None, Query(description="Repeatable: any of these states")]
MethodFilter = Annotated[
    list[str] | None,
    Query(max_length=32, description="Repeatable: the job uses all of these methods"),
]
LabelFilter = Annotated[
    list[str] | None,
    Query(max_length=64, description="key:value; repeatable: the job has all of these labels"),
]
NameFilter = Annotated[str | None, Query(max_length=200, description="Part of the name, or the id")]
ModelFilter = Annotated[
    str | None,
    Query(max_length=64, description="Id of a model: a teacher, initial weights, or evaluated"),
]
EarlierJobFilter = Annotated[
    str | None,
    Query(alias="from", max_length=64, description="Id of the job that it continues from"),
]


class JobFilters:
    """SQL conditions that every job of the list meets."""

    def __init__(  # noqa: PLR0913 - each is a filter of the contract
        self,
        state: StateFilter = None,
        kind: TrainKind | None = None,
        method: MethodFilter = None,
        architecture: TextFilter = None,
        dataset: IdFilter = None,
        model: ModelFilter = None,
        from_: EarlierJobFilter = None,
        label: LabelFilter = None,
        q: NameFilter = None,
        created_after: QueryTime | None = None,
    ) -> None:
        self.conditions: list[ColumnElement[bool]] = _label_conditions(label or [])
        if state:
            self.conditions.append(Job.state.in_(state))
        if method:
            self.conditions.append(Job.methods.contains(method))
        if q:
            self.conditions.append(or_(Job.name.icontains(q, autoescape=True), Job.id == q))
        if model:
            evaluated = Job.spec["model"].astext == model
            self.conditions.append(or_(Job.model_ids.contains([model]), evaluated))
        if created_after:
            self.conditions.append(Job.created_at > created_after)
        earlier_job = Job.spec["from"]["job"].astext
        equal = {Job.kind: kind, Job.architecture: architecture, Job.dataset_id: dataset}
        self.conditions += [column == value for column, value in equal.items() if value]
        self.conditions += [earlier_job == from_] if from_ else []


JobFiltersDep = Annotated[JobFilters, Depends()]


def _label_conditions(labels: list[str]) -> list[ColumnElement[bool]]:
    pairs = [label.partition(":") for label in labels]
    if any(not colon for _, colon, _ in pairs):
        raise InvalidRequestError.of("?label", "bad_label", "must be key:value")
    return [Job.labels.contains({key: value}) for key, _, value in pairs]


@idempotent_post(
    router, response_model=JobOut, route_class=JobBodyRoute, responses=VALIDATION_RESPONSES
)
def create_job(
    body: JobSpec, request: Request, caller: JobWriter, validate_only: ValidateOnly = False
) -> Response:
    """Create a job, which a worker then runs. A 422 lists all issues of the request."""
    if validate_only:
        with transaction() as session:
            return json_response(validation_result(session, body, caller))

    def create(session: Session) -> CreatedResource:
        job = create_job_row(session, body, caller)
        failpoint("api.stored")
        return job

    response = run_idempotent(request, caller, create)
    failpoint("api.committed")
    return response


@router.get(
    "",
    response_model=JobPage,
    responses=sse.stream_responses("A page of jobs, or the stream of changed jobs"),
)
async def list_jobs(  # noqa: PLR0913 - each is a part of the query
    request: Request,
    caller: JobReader,
    page_query: PageQueryDep,
    filters: JobFiltersDep,
    sort: Annotated[
        Literal["-created_at", "created_at", "queue"],
        Query(description="`queue`: the order in which the jobs of a project start"),
    ] = "-created_at",
    after: sse.After = None,
    last_event_id: sse.LastEventId = None,
) -> Response:
    """List the jobs that users posted, the newest first, or stream each job when it changes.

    The stream ignores filters. It begins with a `snapshot`, then sends a `job` whenever a job has
    changed, or a `reload` if too many have changed: then list the jobs again.
    """
    if sse.accepts_stream(request):
        broadcaster: Broadcaster = request.app.state.broadcaster
        position = sse.resume_position(last_event_id, after)
        return sse.stream_response(
            request, stream_changed_jobs(broadcaster, caller.project_id, position)
        )
    return await anyio.to_thread.run_sync(_list, caller, page_query, filters, sort)


def _list(caller: Principal, page_query: PageQuery, filters: JobFilters, sort: str) -> Response:
    project_jobs = (Job.project_id == caller.project_id, Job.queue == scoping.TRAIN_QUEUE)
    with transaction() as session:
        queue_status = queue_position.QueueStatus(session)
        return paginate(
            session,
            select(Job).options(*LOAD_RUNTIME).where(*project_jobs, *filters.conditions),
            lambda row: serialize_job(session, row, queue_status),
            page_query,
            descending=sort.startswith("-"),
            leading_column="priority" if sort == "queue" else None,
        )


@router.get("/{job_id}", response_model=JobOut)
def get_job(job_id: str, request: Request, caller: JobReader) -> Response:
    """Get a job: as posted, as resolved, its progress, and its result or error."""
    with read_session() as session:
        row = scoping.get_or_404(session, Job, job_id, caller, options=LOAD_RUNTIME)
        serialized = serialize_job(session, row)
        return etag_response(request, serialized, job_etag(row, serialized))


@router.patch("/{job_id}", response_model=JobOut)
def update_job(job_id: str, body: JobUpdate, request: Request, caller: JobWriter) -> Response:
    """Change name, labels, priority or limits. With `If-Match`, only if the job has not changed.

    New limits apply from the next run on. A job that reached a limit can get a higher one and then
    be retried.
    """
    with transaction() as session:
        row = scoping.get_or_404(session, Job, job_id, caller, lock=True)
        if not if_match(request, row.rev):
            raise ProblemError(412, "precondition_failed", "the job has changed; get it again")
        update_job_row(session, row, body)
        serialized = serialize_job(session, row)
        return etag_response(request, serialized, job_etag(row, serialized))


@router.delete("/{job_id}", status_code=204, response_class=Response)
def delete_job(job_id: str, caller: JobWriter) -> Response:
    """Delete a job that has ended, with its events, metrics and artifacts.

    A job cannot be deleted while an unfinished job continues from it (`from`).
    """
    with transaction() as session:
        delete_job_row(session, scoping.get_or_404(session, Job, job_id, caller, lock=True))
    return Response(status_code=204)
