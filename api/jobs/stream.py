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
from sqlalchemy.orm import undefer

from api.http import scoping, sse
from api.http.notifications import ANY_JOB, POLL_INTERVAL_S, Broadcaster
from api.jobs import serializers
from store import outbox
from store.database import transaction
from store.tables import Job, JobEvent

MAX_CHANGED_JOBS = 200
"""Jobs that one look tells of; where more have changed, the client reads the list again."""
MIN_INTERVAL_S = 0.5
"""Between two looks: nobody reads a table that changes more often than twice a second."""
_OVERLAP = timedelta(seconds=10)
"""Longer than any transaction that writes events: a statement may take half of it."""
_MAX_GAP = timedelta(minutes=10)
"""A client that was away for longer reads the list again."""


class ChangedJobs(NamedTuple):
    """What has changed since the last look."""

    clock_us: int
    """Where a later stream goes on."""
    last_seqs: dict[str, int]
    """The number of the last event of each job that the next look may meet again."""
    jobs: list[dict[str, Any]]
    must_reload: bool


async def stream_changed_jobs(
    broadcaster: Broadcaster, project_id: str, after: int
) -> AsyncGenerator[bytes]:
    """Frames: ``snapshot`` first, then ``job`` for each changed one, or ``reload`` for too many."""
    yield sse.RETRY
    changes = await anyio.to_thread.run_sync(_read_changes, project_id, after or None, {})
    # Who goes on from a place has come no further before the frames of this look have arrived.
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
    """Read what has changed since ``after``, microseconds; nothing for None, the beginning."""
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
        # At the beginning the client has just read the list: all of it counts as told.
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
            )
            queue_status = outbox.QueueStatus(session)
            serialized_jobs = [
                serializers.serialize_job(session, row, queue_status) for row in rows
            ]
    clock_us = int(now.timestamp() * 1_000_000)
    return ChangedJobs(
        clock_us, newest_seqs, serialized_jobs, too_old or len(changed) > MAX_CHANGED_JOBS
    )


def _is_new(last_seqs: dict[str, int], job: str, seq: int) -> bool:
    return seq > last_seqs.get(job, 0)


def _parse_position(after: int, now: datetime) -> datetime:
    """A client's place as a moment; one that lies outside of time is taken as now."""
    try:
        return min(datetime.fromtimestamp(after / 1_000_000, UTC), now)
    except (OverflowError, ValueError, OSError):
        return now
