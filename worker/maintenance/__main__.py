"""``python -m worker.maintenance``: relay, reaper and garbage collection, in one process.

The reaper takes jobs back from workers whose heartbeat has stopped.

Any number of these processes may run, all at work: rows are taken with SKIP LOCKED, and every task
may run twice. A lock for a single active process would be held by one that is frozen.
"""

import signal
import threading
import time
from collections.abc import Callable

import structlog
from psycopg import Error as DatabaseError
from sqlalchemy.exc import SQLAlchemyError

from kdcore.runtime.failpoints import failpoint
from store import jobs, logs, outbox
from store.database import Connection, connect, transaction
from store.settings import check_settings_or_exit, settings
from worker.maintenance import gc, relay

log = structlog.get_logger()
SWEEP_INTERVAL_S = 600.0


def run_maintenance(stop: threading.Event) -> None:
    """Repeat all tasks until ``stop`` is set; wait while the database is unavailable."""
    while not stop.is_set():
        try:
            # Not a connection of the pool: LISTEN must end with the connection.
            with connect() as connection:
                connection.autocommit = True
                _run_rounds(connection, stop)
        except (SQLAlchemyError, DatabaseError) as error:
            log.warning("database_unavailable", error=str(error))
        stop.wait(settings().maintenance_interval_s)


def _run_rounds(connection: Connection, stop: threading.Event) -> None:
    connection.execute(f"LISTEN {outbox.CHANNEL}")
    next_sweep = next_reminder = time.monotonic()
    orphans = gc.OrphanCollector()
    while not stop.is_set():
        _run_guarded(_reap)
        if time.monotonic() > next_reminder:
            _run_guarded(relay.remind)
            next_reminder = time.monotonic() + settings().reminder_interval_s
        _run_guarded(relay.relay)
        if time.monotonic() > next_sweep:
            _run_guarded(gc.delete_expired)
            _run_guarded(orphans.delete_orphans)
            next_sweep = time.monotonic() + SWEEP_INTERVAL_S
        _wait_for_message(connection, stop)


def _reap() -> None:
    """Requeue jobs whose lease has expired, and jobs whose delay is over."""
    with transaction() as session:
        num_lost = jobs.reap_expired_leases(session)
        jobs.wake_delayed_jobs(session)
        failpoint("maintenance.reaped")
    if num_lost:
        log.warning("leases_expired", jobs=num_lost)


def _wait_for_message(connection: Connection, stop: threading.Event) -> None:
    """Wait for a message in the outbox, for the interval at most; notice a stop within 0.5 s."""
    end = time.monotonic() + settings().maintenance_interval_s
    while not stop.is_set() and (remaining_s := end - time.monotonic()) > 0:
        for _ in connection.notifies(timeout=min(remaining_s, 0.5), stop_after=1):
            return


def _run_guarded(task: Callable[[], None]) -> None:
    """Run a task; its failure is logged, and the other tasks still run."""
    try:
        task()
    except (SQLAlchemyError, OSError) as error:
        log.warning("maintenance_task_failed", task=task.__name__, error=str(error))


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    check_settings_or_exit()
    logs.configure()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    run_maintenance(stop)


if __name__ == "__main__":
    main()
