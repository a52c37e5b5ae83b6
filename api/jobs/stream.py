"""The stream of a project's changed jobs.

Each job numbers its own events, so a position in this stream is a time of the database's clock, in
microseconds. A transaction may commit an event whose time lies before a position that a client
already has. Each read therefore overlaps the previous one by ``_OVERLAP``, and a job is sent again
only if the number of its newest event has grown.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import anyio.to_thread
from sqlalchemy import func, select
from sqlalchemy.orm import undefer

from api.http import scoping, sse
from api.http.notifications import ANY_JOB, POLL_INTERVAL_S, Broadcaster
from api.http.pagination import serialize_rows
from api.jobs import serializers
from store.database import transaction
from store.jobs import queue_position
from store.tables import Job, JobEvent

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
