"""The reaper: takes jobs back from workers whose heartbeat has stopped."""

import structlog

from kdcore.runtime.failpoints import failpoint
from store import jobs
from store.database import transaction

log = structlog.get_logger()


def reap() -> None:
    """Requeue jobs whose lease has expired, and jobs whose delay is over."""
    with transaction() as session:
        num_lost = jobs.reap_expired_leases(session)
        jobs.wake_delayed_jobs(session)
        failpoint("maintenance.reaped")
    if num_lost:
        log.warning("leases_expired", jobs=num_lost)
