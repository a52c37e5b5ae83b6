"""A project's jobs as they change: one stream for a whole table.

Events are numbered by their job, so a place in this stream is a moment of the database's clock, in
microseconds. A transaction that began before that moment may commit after it: what is read overlaps
with what was read before, and a job is told again only if its own number has grown.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import anyio.to_thread
from sqlalchemy import func, select

from api.http import scoping, sse
from api.http.notifications import ANY, FLOOR_S, Hub
from api.jobs import serializers
from store import outbox
from store.database import transaction
from store.tables import Event, Job

AT_MOST = 200
"""Jobs that one look tells of; where more have changed, the client reads the list again."""
PACE_S = 0.5
"""Between two looks: nobody reads a table that changes more often than twice a second."""
_OVERLAP = timedelta(seconds=10)
"""Longer than any transaction that writes events: a statement may take half of it."""
_LONGEST = timedelta(minutes=10)
"""A client that was away for longer reads the list again."""


class Look(NamedTuple):
    """What has changed since the last look."""

    moment: int
    """Where a later stream goes on."""
    told: dict[str, int]
    """The number of the last event of each job that the next look may meet again."""
    jobs: list[dict[str, Any]]
    more: bool


async def stream(hub: Hub, project_id: str, after: int) -> AsyncGenerator[bytes]:
    """Frames: ``snapshot`` first, then ``job`` for each changed one, or ``reload`` for too many."""
    yield sse.RETRY
    look = await anyio.to_thread.run_sync(_look, project_id, after or None, {})
    # Who goes on from a place has come no further before the frames of this look have arrived.
    yield sse.frame("snapshot", {}, after or look.moment)
    quiet_s = 0.0
    with hub.waiter(ANY) as wake:
        while not hub.closing.is_set():
            for frame in _frames(look):
                yield frame
            quiet_s = 0.0 if look.jobs else quiet_s + FLOOR_S
            if quiet_s >= sse.PING_S:
                yield sse.PING
                quiet_s = 0.0
            await asyncio.sleep(PACE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), FLOOR_S)
            wake.clear()
            look = await anyio.to_thread.run_sync(_look, project_id, look.moment, look.told)


def _frames(look: Look) -> list[bytes]:
    if look.more:
        return [sse.frame("reload", {}, look.moment)]
    last = len(look.jobs) - 1
    return [
        sse.frame("job", job, look.moment if at == last else None)
        for at, job in enumerate(look.jobs)
    ]


def _look(project_id: str, after: int | None, told: dict[str, int]) -> Look:
    """Read what has changed since ``after``, microseconds; nothing for None, the beginning."""
    with transaction() as session:
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        since = now if after is None else _moment(after, now)
        away = now - since > _LONGEST
        since = max(since, now - _LONGEST)
        newest = func.max(Event.seq)
        query = (
            select(Event.job_id, newest)
            .where(Event.project_id == project_id, Event.time > since - _OVERLAP)
            .group_by(Event.job_id)
        )
        seen = {row[0]: row[1] for row in session.execute(query)}
        # At the beginning the client has just read the list: all of it counts as told.
        changed = (
            [] if after is None else [job for job, seq in seen.items() if _new(told, job, seq)]
        )
        shown: list[dict[str, Any]] = []
        if len(changed) <= AT_MOST:
            rows = session.scalars(
                select(Job).where(Job.id.in_(changed), Job.lane == scoping.LANE).order_by(Job.id)
            )
            waiting = outbox.Waiting(session)
            shown = [serializers.job(session, row, waiting) for row in rows]
    micros = int(now.timestamp() * 1_000_000)
    return Look(micros, seen, shown, away or len(changed) > AT_MOST)


def _new(told: dict[str, int], job: str, seq: int) -> bool:
    return seq > told.get(job, 0)


def _moment(after: int, now: datetime) -> datetime:
    """A client's place as a moment; one that lies outside of time is taken as now."""
    try:
        return min(datetime.fromtimestamp(after / 1_000_000, UTC), now)
    except (OverflowError, ValueError, OSError):
        return now
