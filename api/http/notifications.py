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
FLOOR_S = 2.0
ANY = ""
"""Waits for every job."""


class Hub:
    """Wakes the streams of a job when its events have been committed."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen as long as the application runs; streams end when it closes."""
        self._task = asyncio.create_task(self._listen(), name="hub")
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
        for waiting in list(self._waiting.values()):
            for wake in waiting:
                wake.set()

    @contextlib.contextmanager
    def waiter(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job, or with ``ANY`` some job, has something new."""
        wake = asyncio.Event()
        self._waiting[job_id].add(wake)
        try:
            yield wake
        finally:
            self._waiting[job_id].discard(wake)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(conninfo(), autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {event_log.CHANNEL}")
                    async for notice in connection.notifies():
                        for place in (notice.payload, ANY):
                            for wake in self._waiting.get(place, ()):
                                wake.set()
            except psycopg.Error as error:
                log.warning("listening_interrupted", error=str(error))
            await asyncio.sleep(FLOOR_S)
