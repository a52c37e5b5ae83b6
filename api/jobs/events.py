"""Events of a job: a list, or a live stream with ``Accept: text/event-stream``.

The list of a project's jobs streams those that change. Each job numbers its own events, so a
position in that stream is a time of the database's clock, in microseconds. A transaction may commit
an event whose time lies before a position that a client already has. Each read therefore overlaps
the previous one by ``_OVERLAP``, and a job is sent again only if the number of its newest event has
grown.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import anyio.to_thread
from fastapi import Query, Request
from sqlalchemy import func, select
from sqlalchemy.orm import undefer
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import JobReader
from api.http.notifications import ANY_JOB, POLL_INTERVAL_S, Broadcaster
from api.http.pagination import PageQueryDep, serialize_rows
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs import serializers
from api.jobs.schemas import EventPage
from store import event_log
from store.access.credentials import Principal
from store.database import transaction
from store.jobs import queue_position
from store.tables import Job, JobEvent

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


MAX_CHANGED_JOBS = 200
"""Largest number of jobs that one read sends; after more changes the client lists them again."""
MIN_INTERVAL_S = 0.5
"""Shortest time between two reads."""
_OVERLAP = timedelta(seconds=10)
"""Longer than a transaction that writes events can last."""
_MAX_GAP = timedelta(minutes=10)
"""After a longer interruption the client lists the jobs again."""


class ChangedJobs(NamedTuple):
    """What changed since the previous read."""

    clock_us: int
    """Position at which the next read or a later stream continues."""
    last_seqs: dict[str, int]
    """Number of the newest event of each job that the next read may find again."""
    jobs: list[dict[str, Any]]
    must_reload: bool


async def stream_changed_jobs(
    broadcaster: Broadcaster, project_id: str, after: int
) -> AsyncGenerator[bytes]:
    """Yield frames: a ``snapshot``, then a ``job`` for each change, or a ``reload``."""
    yield sse.RETRY
    changes = await anyio.to_thread.run_sync(_read_changes, project_id, after or None, {})
    # A resumed stream keeps its position until the client has the frames of this first read.
    yield sse.format_event("snapshot", {}, after or changes.clock_us)
    quiet_s = 0.0
    with broadcaster.subscribe(ANY_JOB) as wake:
        while not broadcaster.closing.is_set():
            for frame in _frames(changes):
                yield frame
            quiet_s = 0.0 if changes.jobs else quiet_s + POLL_INTERVAL_S
            if quiet_s >= sse.PING_S:
                yield sse.PING
                quiet_s = 0.0
            await asyncio.sleep(MIN_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), POLL_INTERVAL_S)
            wake.clear()
            changes = await anyio.to_thread.run_sync(
                _read_changes, project_id, changes.clock_us, changes.last_seqs
            )


def _frames(changes: ChangedJobs) -> list[bytes]:
    if changes.must_reload:
        return [sse.format_event("reload", {}, changes.clock_us)]
    last = len(changes.jobs) - 1
    return [
        sse.format_event("job", job, changes.clock_us if index == last else None)
        for index, job in enumerate(changes.jobs)
    ]


def _read_changes(project_id: str, after: int | None, last_seqs: dict[str, int]) -> ChangedJobs:
    """Read the jobs that changed after the time ``after``; None starts at the current time."""
    with transaction() as session:
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        since = now if after is None else _parse_position(after, now)
        too_old = now - since > _MAX_GAP
        since = max(since, now - _MAX_GAP)
        newest = func.max(JobEvent.seq)
        query = (
            select(JobEvent.job_id, newest)
            .where(JobEvent.project_id == project_id, JobEvent.time > since - _OVERLAP)
            .group_by(JobEvent.job_id)
        )
        newest_seqs = {row[0]: row[1] for row in session.execute(query)}
        # A new stream sends no job, because the client has just listed them.
        changed = (
            []
            if after is None
            else [job for job, seq in newest_seqs.items() if _is_new(last_seqs, job, seq)]
        )
        serialized_jobs: list[dict[str, Any]] = []
        if len(changed) <= MAX_CHANGED_JOBS:
            rows = session.scalars(
                select(Job)
                .options(undefer(Job.runtime))
                .where(Job.id.in_(changed), Job.queue == scoping.TRAIN_QUEUE)
                .order_by(Job.id)
            ).all()
            queue_status = queue_position.QueueStatus(session)
            serialized_jobs = serialize_rows(
                rows, lambda row: serializers.serialize_job(session, row, queue_status)
            ).items
    clock_us = int(now.timestamp() * 1_000_000)
    return ChangedJobs(
        clock_us, newest_seqs, serialized_jobs, too_old or len(changed) > MAX_CHANGED_JOBS
    )


def _is_new(last_seqs: dict[str, int], job: str, seq: int) -> bool:
    return seq > last_seqs.get(job, 0)


def _parse_position(after: int, now: datetime) -> datetime:
    """The time of a client's position; the current time if the position is out of range."""
    try:
        return min(datetime.fromtimestamp(after / 1_000_000, UTC), now)
    except (OverflowError, ValueError, OSError):
        return now
