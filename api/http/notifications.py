"""Broadcaster: one LISTEN connection of the process wakes all its event streams.

A notification is only a hint. A stream reads the event log after a notification and every
``POLL_INTERVAL_S`` seconds, so that a lost notification delays an event but never loses it.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import psycopg
import structlog

from store import event_log
from store.database import conninfo

log = structlog.get_logger()
POLL_INTERVAL_S = 2.0
ANY_JOB = ""
"""Topic of a subscriber to all jobs."""


class Broadcaster:
    """Wakes the streams of a job after its events have been committed."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the application stops, then end all streams."""
        self._task = asyncio.create_task(self._listen(), name="broadcaster")
        try:
            yield
        finally:
            self.close()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def close(self) -> None:
        """End all streams; their clients reconnect to another process."""
        self.closing.set()
        for subscribers in list(self._subscribers.values()):
            for wake in subscribers:
                wake.set()

    @contextlib.contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job has new events; ``ANY_JOB`` subscribes to all jobs."""
        wake = asyncio.Event()
        self._subscribers[job_id].add(wake)
        try:
            yield wake
        finally:
            self._subscribers[job_id].discard(wake)
            if not self._subscribers[job_id]:
                del self._subscribers[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(conninfo(), autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {event_log.CHANNEL}")
                    async for notice in connection.notifies():
                        for topic in (notice.payload, ANY_JOB):
                            for wake in self._subscribers.get(topic, ()):
                                wake.set()
            except psycopg.Error as error:
                log.warning("notification_listener_interrupted", error=str(error))
            await asyncio.sleep(POLL_INTERVAL_S)
