"""Jobs: posted, listed, changed, cancelled, deleted."""

from collections.abc import Iterator
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import Header, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import JobWriter, Reader
from api.http.idempotency import KEYED, Created, once
from api.http.notifications import Hub
from api.http.pagination import Asked, PageAsked, page
from api.http.problems import Conflict, Invalid, Problem
from api.http.responses import matches, reply, tagged
from api.http.router import router
from api.jobs import serializers, stream
from api.jobs.continuation import continued_by
from api.jobs.estimate import estimate_of
from api.jobs.filters import Filtered, Filters
from api.jobs.schemas import JobChange, JobOut, JobPage, Validated
from api.jobs.validation import AdmittingRoute, admit
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.validation.errors import Fault
from store import event_log, outbox
from store import jobs as transitions
from store.access.credentials import Principal
from store.database import reading, transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Job

jobs = router("/jobs", "jobs")
posting = router("/jobs", "jobs")
posting.route_class = AdmittingRoute


@posting.post(
    "",
    status_code=201,
    dependencies=KEYED,
    response_model=JobOut,
    responses={200: {"model": Validated, "description": "validate_only: nothing is stored"}},
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
            return validated(session, body, caller)
        answer = once(session, request, caller.project_id, lambda: create(session, body, caller))
        failpoint("api.stored")
    failpoint("api.committed")
    return answer


def validated(
    session: Session, body: JobSpec, caller: Principal, kind: Literal["warm"] | None = None
) -> Response:
    """What :func:`create` would store, and what is known of it; it raises the same, and stores
    nothing."""
    admitted = admit(session, body, caller)
    _check(admitted.resolved, kind)
    return reply(
        {
            "resolved": admitted.resolved.model_dump(mode="json"),
            "estimate": estimate_of(session, caller.project_id, admitted),
            "warnings": admitted.warnings,
            "methods": serializers.applicability(admitted.applicability),
        }
    )


def create(
    session: Session, body: JobSpec, caller: Principal, kind: Literal["warm"] | None = None
) -> Created:
    """A job's row; one of the kind `warm` only asks what the same job would ask its teachers."""
    resolved = admit(session, body, caller).resolved
    _check(resolved, kind)
    bounded(session, caller)
    init = [] if resolved.student.init in ("random", "pretrained") else [resolved.student.init]
    row = transitions.create(
        session,
        Job(
            id=new_id("job"),
            project_id=caller.project_id,
            kind=kind or body.kind,
            lane="train",
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
    return Created(serializers.job(session, row), f"/v1/jobs/{row.id}")


def _check(resolved: ResolvedJob, kind: Literal["warm"] | None) -> None:
    if kind == "warm" and (faults := list(_nothing_to_ask(resolved))):
        raise Invalid(faults)


def _nothing_to_ask(job: ResolvedJob) -> Iterator[Fault]:
    """Why a job keeps none of its teachers' answers."""
    if job.training.views == "fresh":
        detail = "fresh views never come again: say how many there shall be"
        yield Fault(pointer="/training/views", code="fresh_views", detail=detail)
    if not job.teachers:
        detail = "there is nobody to be asked: name a teacher"
        yield Fault(pointer="/teachers", code="teacher_required", detail=detail)


def bounded(session: Session, caller: Principal) -> None:
    """Refuse a job where too many wait already."""
    most = settings().max_queued
    if outbox.depth(session, caller.project_id, scoping.LANE) >= most:
        detail = f"{most} jobs of this project wait already; post more when some have started"
        raise Problem(429, "queue_full", detail, headers={"Retry-After": "30"})


@jobs.get(
    "",
    response_model=JobPage,
    responses={
        200: {"description": "A page of jobs, or the stream of changes", "content": sse.CONTENT}
    },
)
async def list_jobs(  # noqa: PLR0913 - each is a part of the query
    request: Request,
    caller: Reader,
    asked: PageAsked,
    filters: Filtered,
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
    if sse.wanted(request):
        hub: Hub = request.app.state.hub
        place = sse.place(last_event_id, after)
        return sse.answer(request, stream.stream(hub, caller.project_id, place))
    return await anyio.to_thread.run_sync(_list, caller, asked, filters, sort)


def _list(caller: Principal, asked: Asked, filters: Filters, sort: str) -> Response:
    own = (Job.project_id == caller.project_id, Job.lane == scoping.LANE)
    with transaction() as session:
        waiting = outbox.Waiting(session)
        return page(
            session,
            select(Job).where(*own, *filters.wanted),
            lambda row: serializers.job(session, row, waiting),
            asked,
            descending=sort.startswith("-"),
            highest="priority" if sort == "queue" else None,
        )


@jobs.get("/{job_id}", response_model=JobOut)
def get_job(job_id: str, request: Request, caller: Reader) -> Response:
    """One job: as posted, as resolved, how far it is, and how it ended."""
    with reading() as session:
        row = scoping.get(session, Job, job_id, caller)
        shown = serializers.job(session, row)
        return tagged(request, shown, serializers.tag(row, shown))


@jobs.patch("/{job_id}", response_model=JobOut)
def change_job(job_id: str, body: JobChange, request: Request, caller: JobWriter) -> Response:
    """Change name, labels, priority, limits; with ``If-Match``, only the version that you saw.

    Limits hold from the next run on: a job that reached one may be given more, and then retried.
    """
    with transaction() as session:
        row = scoping.get(session, Job, job_id, caller, lock=True)
        if not matches(request, row.rev):
            raise Problem(412, "precondition_failed", "the job has changed; get it again")
        changed = body.model_dump(mode="json", exclude_none=True, exclude={"limits"})
        for name, value in changed.items():
            setattr(row, name, value)
        if body.limits is not None:
            given = body.limits.model_dump(mode="json", exclude_unset=True)
            changed["limits"] = (row.resolved.get("limits") or {}) | given
        row.spec = {**row.spec, **changed}
        row.resolved = {**row.resolved, **changed}
        row.rev += 1
        event_log.append(session, row, "changed", changed)
        session.flush()
        shown = serializers.job(session, row)
        return tagged(request, shown, serializers.tag(row, shown))


@jobs.delete("/{job_id}", status_code=204, response_class=Response)
def delete_job(job_id: str, caller: JobWriter) -> Response:
    """Delete a job that has ended, with its events, metrics and artifacts.

    Not while an unfinished job goes on from it (``from``).
    """
    with transaction() as session:
        row = scoping.get(session, Job, job_id, caller, lock=True)
        user = session.scalar(select(Job.id).where(continued_by(row.id)).limit(1))
        if user is not None:
            detail = f"{user} goes on from it: cancel that one, or wait until it has ended"
            raise Conflict("in_use", detail, current_state=row.state)
        transitions.delete(session, row)
    return Response(status_code=204)
