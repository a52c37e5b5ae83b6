"""Events of a job: a list, or a live stream with ``Accept: text/event-stream``."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Query, Request
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import JobReader
from api.http.notifications import POLL_INTERVAL_S, Broadcaster
from api.http.pagination import PageQueryDep
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs import serializers
from api.jobs.schemas import EventPage
from store import event_log
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Job

router = v1_router("/jobs/{job_id}", "events")

BATCH = 500


@router.get(
    "/events",
    response_model=EventPage,
    responses=sse.stream_responses("A page of events, or the stream of events"),
)
async def list_job_events(  # noqa: PLR0913 - each is a part of the query
    job_id: str,
    request: Request,
    caller: JobReader,
    page_query: PageQueryDep,
    after: sse.After = None,
    type_: Annotated[
        list[str] | None,
        Query(
            alias="type", max_length=20, description="Types of events to list; a stream ignores it"
        ),
    ] = None,
    last_event_id: sse.LastEventId = None,
) -> Response:
    """List all events in order, or stream them: first a `snapshot`, finally `stream.end`."""
    if not sse.accepts_stream(request):
        if page_query.cursor is not None:
            (after,) = page_query.position(1) or [0]
        return await anyio.to_thread.run_sync(
            _list, job_id, caller, after or 0, type_ or [], page_query
        )
    job = await anyio.to_thread.run_sync(_snapshot, job_id, caller)
    broadcaster: Broadcaster = request.app.state.broadcaster
    return sse.stream_response(
        request, _stream(broadcaster, job, sse.resume_position(last_event_id, after))
    )


def _list(
    job_id: str, caller: Principal, after: int, types: list[str], page_query: PageQueryDep
) -> Response:
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        rows = event_log.list_after(session, job.id, after, page_query.size + 1, types)
        more = len(rows) > page_query.size
        rows = rows[: page_query.size]
        next_cursor = page_query.next_cursor([rows[-1].seq]) if more else None
        return json_response(
            {"data": [serializers.serialize_event(row) for row in rows], "next_cursor": next_cursor}
        )


def _snapshot(job_id: str, caller: Principal) -> dict[str, Any]:
    with transaction() as session:
        return serializers.serialize_job(session, scoping.get_or_404(session, Job, job_id, caller))


def _read_events(job_id: str, after: int) -> tuple[list[dict[str, Any]], bool]:
    """New events, and whether they are the last ones. Reads hold no connection in between."""
    with transaction() as session:
        job = session.get(Job, job_id)
        ended = job is None or serializers.is_terminal(job)
        rows = event_log.list_after(session, job_id, after, BATCH)
        return [serializers.serialize_event(row) for row in rows], ended and len(rows) < BATCH


async def _stream(
    broadcaster: Broadcaster, job: dict[str, Any], after: int
) -> AsyncGenerator[bytes]:
    yield sse.RETRY
    yield sse.format_event("snapshot", job, None)
    quiet_s = 0.0
    with broadcaster.subscribe(job["id"]) as wake:
        while not broadcaster.closing.is_set():
            wake.clear()
            new_events, ended = await anyio.to_thread.run_sync(_read_events, job["id"], after)
            for event in new_events:
                after = event["id"]
                yield sse.format_event(event["type"], event, after)
            if ended:
                final_state = await anyio.to_thread.run_sync(_state, job["id"])
                yield sse.format_event("stream.end", {"job": job["id"], "state": final_state}, None)
                return
            quiet_s = 0.0 if new_events else quiet_s
            if quiet_s >= sse.PING_S:
                yield sse.PING
                quiet_s = 0.0
            if not new_events:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), POLL_INTERVAL_S)
                quiet_s += POLL_INTERVAL_S


def _state(job_id: str) -> str | None:
    with transaction() as session:
        job = session.get(Job, job_id)
        return job.state if job else None
