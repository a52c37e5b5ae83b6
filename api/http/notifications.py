"""Who waits for what: one connection a process listens for all streams.

A notification is a hint. A stream reads the durable log when it is woken, and every two seconds
anyway, so that a lost one costs no event.
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
"""Waits for every job."""


class Broadcaster:
    """Wakes the streams of a job when its events have been committed."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen as long as the application runs; streams end when it closes."""
        self._task = asyncio.create_task(self._listen(), name="broadcaster")
        try:
            yield
        finally:
            self.close()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def close(self) -> None:
        """End all streams: their clients come back to another process."""
        self.closing.set()
        for subscribers in list(self._subscribers.values()):
            for wake in subscribers:
                wake.set()

    @contextlib.contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job, or with ``ANY`` some job, has something new."""
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
