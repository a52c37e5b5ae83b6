"""Lease: renewed from a thread, so that no slow upload or hung engine lets it expire."""

import threading
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store import jobs
from store.database import transaction
from store.settings import settings

log = structlog.get_logger()


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
