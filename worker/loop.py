"""WorkerLoop: one slot of a worker claims the next job of its queue, runs it, and looks again."""

import os
import socket

import structlog
from sqlalchemy.exc import SQLAlchemyError

from kdcore.runtime.failpoints import failpoint
from store import jobs
from store.database import transaction
from store.settings import settings
from store.tables import Job
from worker.engine.prewarm import EnginePool
from worker.executor import execute_job
from worker.files import asset_cache
from worker.shutdown import ShutdownFlag, worker_shutdown

log = structlog.get_logger()


class WorkerLoop:
    """A slot with the engines that it starts. Each process of a worker has one."""

    def __init__(
        self, pool: EnginePool | None = None, shutdown: ShutdownFlag = worker_shutdown
    ) -> None:
        self.pool = pool or EnginePool()
        self._shutdown = shutdown

    def run_jobs(self, queue: str) -> None:
        """Run jobs until the queue is empty or the worker shuts down.

        Another slot may have claimed the job of a message, so an empty queue is usual.
        """
        while not self._shutdown.is_requested():
            if not asset_cache.ensure_free_space():
                log.error("no_free_space", folder=str(settings().work_dir))
                return  # another worker may have space, and maintenance sends another message
            try:
                job = _claim(queue)
            except SQLAlchemyError as error:
                log.warning("claim_failed", queue=queue, error=str(error))
                return  # maintenance sends another message while the job is queued
            if job is None:
                if queue == "train":
                    self.pool.prewarm()
                return
            failpoint("worker.claimed")
            execute_job(job, self.pool, self._shutdown)
            failpoint("worker.ended")


def _claim(queue: str) -> Job | None:
    with transaction() as session:
        return jobs.claim(session, queue, f"{queue}@{socket.gethostname()}/{os.getpid()}")
