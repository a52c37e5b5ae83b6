"""A job's events: a list, or with ``Accept: text/event-stream`` the same as a live stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Header, Query, Request
from starlette.responses import Response

from api.http import scoping, sse
from api.http.auth import Reader
from api.http.notifications import FLOOR_S, Hub
from api.http.pagination import PageAsked
from api.http.responses import reply
from api.http.router import router
from api.jobs import serializers
from api.jobs.schemas import EventPage
from store import event_log as log
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Job

events = router("/jobs/{job_id}", "events")

BATCH = 500


@events.get(
    "/events",
    response_model=EventPage,
    responses={
        200: {
            "description": "A page of events, or the stream of them",
            "content": sse.CONTENT,
        }
    },
)
async def get_events(  # noqa: PLR0913 - each is a part of the query
    job_id: str,
    request: Request,
    caller: Reader,
    asked: PageAsked,
    after: Annotated[int | None, Query(ge=0, le=2**62, description="Id of an event")] = None,
    type_: Annotated[
        list[str] | None,
        Query(alias="type", max_length=20, description="Of the list alone: only these types"),
    ] = None,
    last_event_id: Annotated[str | None, Header(description="Where a stream goes on")] = None,
) -> Response:
    """Events in order, durable. A stream begins with a snapshot and ends with ``stream.end``."""
    if not sse.wanted(request):
        if asked.cursor is not None:
            (after,) = asked.place(1) or [0]
        return await anyio.to_thread.run_sync(_list, job_id, caller, after or 0, type_ or [], asked)
    job = await anyio.to_thread.run_sync(_snapshot, job_id, caller)
    hub: Hub = request.app.state.hub
    return sse.answer(request, _stream(hub, job, sse.place(last_event_id, after)))


def _list(
    job_id: str, caller: Principal, after: int, types: list[str], asked: PageAsked
) -> Response:
    with transaction() as session:
        job = scoping.get(session, Job, job_id, caller)
        rows = log.after(session, job.id, after, asked.size + 1, types)
        more = len(rows) > asked.size
        rows = rows[: asked.size]
        next_cursor = asked.next([rows[-1].seq]) if more else None
        return reply({"data": [serializers.event(row) for row in rows], "next_cursor": next_cursor})


def _snapshot(job_id: str, caller: Principal) -> dict[str, Any]:
    with transaction() as session:
        return serializers.job(session, scoping.get(session, Job, job_id, caller))


def _read(job_id: str, after: int) -> tuple[list[dict[str, Any]], bool]:
    """New events, and whether nothing will follow them. No connection is held between two reads."""
    with transaction() as session:
        job = session.get(Job, job_id)
        ended = job is None or serializers.ended(job)
        rows = log.after(session, job_id, after, BATCH)
        return [serializers.event(row) for row in rows], ended and len(rows) < BATCH


async def _stream(hub: Hub, job: dict[str, Any], after: int) -> AsyncGenerator[bytes]:
    yield sse.RETRY
    yield sse.frame("snapshot", job, None)
    quiet_s = 0.0
    with hub.waiter(job["id"]) as wake:
        while not hub.closing.is_set():
            wake.clear()
            found, ended = await anyio.to_thread.run_sync(_read, job["id"], after)
            for event in found:
                after = event["id"]
                yield sse.frame(event["type"], event, after)
            if ended:
                last = await anyio.to_thread.run_sync(_state, job["id"])
                yield sse.frame("stream.end", {"job": job["id"], "state": last}, None)
                return
            quiet_s = 0.0 if found else quiet_s
            if quiet_s >= sse.PING_S:
                yield sse.PING
                quiet_s = 0.0
            if not found:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), FLOOR_S)
                quiet_s += FLOOR_S


def _state(job_id: str) -> str | None:
    with transaction() as session:
        job = session.get(Job, job_id)
        return job.state if job else None
