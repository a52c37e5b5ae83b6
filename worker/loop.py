"""One slot of a worker: takes the best job of its queue, runs it, and looks again."""

import os
import socket

import structlog
from sqlalchemy.exc import SQLAlchemyError

from kdcore.runtime.failpoints import failpoint
from store import jobs
from store.database import transaction
from store.settings import settings
from store.tables import Job
from worker import executor, shutdown
from worker.engine import engine_process
from worker.files import asset_cache

log = structlog.get_logger()


def run_jobs(queue: str) -> None:
    """Run jobs until the queue is empty or the worker shuts down.

    A message may have been sent for a job that another slot has taken, so finding nothing is usual.
    """
    while not shutdown.is_shutting_down():
        if not asset_cache.ensure_free_space():
            log.error("no_free_space", folder=str(settings().work_dir))
            return  # others have some, or somebody makes some
        try:
            job = _claim(queue)
        except SQLAlchemyError as error:
            log.warning("claim_failed", queue=queue, error=str(error))
            return  # the keeper sends another message as long as the job waits
        if job is None:
            if queue == "train":
                engine_process.prewarm_engine()
            return
        failpoint("worker.claimed")
        executor.execute_job(job)
        failpoint("worker.ended")


def _claim(queue: str) -> Job | None:
    with transaction() as session:
        return jobs.claim(session, queue, f"{queue}@{socket.gethostname()}/{os.getpid()}")
