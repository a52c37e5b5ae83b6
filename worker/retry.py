"""Retries: a short outage of database or object store must not end a run."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from store import jobs
from store.database import transaction
from store.tables import Job

log = structlog.get_logger()
T = TypeVar("T")
RETRY_TIMEOUT_S = 20.0
"""How long the end of a run waits for a database or store: less than a shutdown may take."""
# Other database errors would repeat with the same batch, so they fail the run.
TRANSIENT_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError, OSError)


def retry_transient(action: Callable[[], T]) -> T:
    """Call ``action`` until it succeeds; raise a lasting error, or a transient one after 20 s."""
    end, pause_s = time.monotonic() + RETRY_TIMEOUT_S, 0.25
    while True:
        try:
            return action()
        except TRANSIENT_ERRORS as error:
            if time.monotonic() > end:
                raise
            log.warning("retrying", error=str(error))
            time.sleep(pause_s)
            pause_s = min(4.0, 2 * pause_s)


def write_fenced(job: Job, change: Callable[[Session, Job], object]) -> None:
    """Change a job's locked row in one transaction.

    Raises ``LeaseLostError``, and writes nothing, if the job has moved on to a later run.
    """

    def attempt() -> None:
        with transaction() as session:
            change(session, jobs.lock_leased_job(session, job.id, job.fence))

    retry_transient(attempt)


def enter_phase(job: Job, phase: str) -> None:
    """Record a phase that is the worker's own: fetching before the engine, uploading after it."""
    write_fenced(job, lambda session, row: jobs.enter_phase(session, row, phase, None))
