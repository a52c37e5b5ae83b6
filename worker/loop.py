"""One slot of a worker: takes the best job of its lane, runs it, and looks again."""

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


def work(lane: str) -> None:
    """Run jobs until the lane is empty or the worker shuts down.

    A message may have been sent for a job that another slot has taken, so finding nothing is usual.
    """
    while not shutdown.begun():
        if not asset_cache.has_room():
            log.error("no_room", folder=str(settings().work_dir))
            return  # others have some, or somebody makes some
        try:
            job = _claim(lane)
        except SQLAlchemyError as error:
            log.warning("claim_failed", lane=lane, error=str(error))
            return  # the keeper sends another message as long as the job waits
        if job is None:
            if lane == "train":
                engine_process.reserve()
            return
        failpoint("worker.claimed")
        executor.run(job)
        failpoint("worker.ended")


def _claim(lane: str) -> Job | None:
    with transaction() as session:
        return jobs.claim(session, lane, f"{lane}@{socket.gethostname()}/{os.getpid()}")
