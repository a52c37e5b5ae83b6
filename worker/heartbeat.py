"""Heartbeats: the row of a worker, which the API reads, and the lease of the job that it runs.

Threads renew both, so that no slow upload or hung engine lets a lease expire, and an idle worker is
seen, too.
"""

import threading
import time

import structlog
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from store import jobs
from store.database import transaction
from store.settings import settings
from store.tables import Worker
from worker.files import asset_cache
from worker.shutdown import worker_shutdown

log = structlog.get_logger()


def start_heartbeat(name: str, queue: str) -> None:
    """Renew the worker's row from a thread until the worker shuts down."""
    threading.Thread(
        target=_heartbeat_loop, args=(name, queue), daemon=True, name="heartbeat"
    ).start()


def _heartbeat_loop(name: str, queue: str) -> None:
    pause = threading.Event()
    started = False
    while not worker_shutdown.is_requested():
        try:
            _write_heartbeat(name, queue, starting=not started)
            started = True
        except (SQLAlchemyError, OSError) as error:
            log.warning("heartbeat_not_written", worker=name, error=str(error))
        pause.wait(settings().heartbeat_s)


def _write_heartbeat(name: str, queue: str, *, starting: bool) -> None:
    now = func.clock_timestamp()
    state = {"queue": queue, "seen_at": now, "missing_disk_bytes": asset_cache.missing_bytes()}
    row = insert(Worker).values(name=name, started_at=now, **state)
    # The row outlives the process: the next process of this name sets a new start.
    changed = state | ({"started_at": now} if starting else {})
    with transaction() as session:
        session.execute(row.on_conflict_do_update(index_elements=["name"], set_=changed))


class Lease:
    """Renews a claimed job's lease while it is entered, and reads the state that the user desires.

    When the database cannot be reached, the run must stop before the lease expires by the monotonic
    clock of this process: after that, another worker may have the job.
    """

    def __init__(self, job_id: str, fence: int) -> None:
        self.desired_state = "run"
        self._fenced = False
        self._job_id = job_id
        self._fence = fence
        self._stop = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(
            target=self._renew_until_stopped, daemon=True, name=f"lease-{job_id}"
        )

    @property
    def lost(self) -> bool:
        """Whether another run may have the job by now; also true while a renewal hangs."""
        left = settings().lease_s - (time.monotonic() - self._renewed_at)
        return self._fenced or left < settings().heartbeat_s

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=settings().statement_timeout_s)

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(settings().heartbeat_s) and not self._fenced:
            requested_at = time.monotonic()
            try:
                with transaction() as session:
                    self.desired_state = jobs.renew_lease(session, self._job_id, self._fence)
                self._renewed_at = requested_at
            except jobs.LeaseLostError:
                self._fenced = True
            except SQLAlchemyError as error:
                log.warning("lease_not_renewed", job=self._job_id, error=str(error))
