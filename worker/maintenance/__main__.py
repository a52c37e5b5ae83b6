"""``python -m worker.maintenance``: sends what the outbox holds and repairs what was left behind.

Any number may run, all at work: rows are taken with SKIP LOCKED, and everything may be done twice.
A lock that lets one work would be held by the one that is frozen.
"""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

import structlog
from kombu.exceptions import OperationalError as BrokerError
from psycopg import Error as DatabaseError
from sqlalchemy import delete, func, not_, or_, select
from sqlalchemy.exc import SQLAlchemyError

from kdcore.runtime.failpoints import failpoint
from store import jobs, logs, object_store, outbox, teacher_caches
from store.database import Connection, connect, transaction
from store.settings import settings
from store.tables import (
    Artifact,
    Checkpoint,
    DashboardSession,
    Dataset,
    IdempotencyKey,
    LoginCode,
    Model,
    TeacherCache,
    Upload,
    UploadPart,
    Worker,
)
from worker.celery_app import send_notification

log = structlog.get_logger()
KEY_BATCH_SIZE = 1000
SWEEP_INTERVAL_S = 600.0
MAX_MESSAGES = 32  # per queue and round: one message wakes a worker until its queue is empty


def run_maintenance(stop: threading.Event) -> None:
    """Work until asked to stop; a database or broker that is away is waited for."""
    while not stop.is_set():
        try:
            # Not one of the pool: LISTEN must end with this very connection.
            with connect() as connection:
                connection.autocommit = True
                _run_rounds(connection, stop)
        except (SQLAlchemyError, DatabaseError) as error:
            log.warning("database_unavailable", error=str(error))
        stop.wait(settings().maintenance_interval_s)


def _run_rounds(connection: Connection, stop: threading.Event) -> None:
    connection.execute(f"LISTEN {outbox.CHANNEL}")
    next_sweep = next_reminder = time.monotonic()
    orphans = OrphanCollector()
    while not stop.is_set():
        _run_guarded(reap)
        if time.monotonic() > next_reminder:
            _run_guarded(remind)
            next_reminder = time.monotonic() + settings().reminder_interval_s
        _run_guarded(relay)
        if time.monotonic() > next_sweep:
            _run_guarded(delete_expired)
            _run_guarded(orphans.delete_orphans)
            next_sweep = time.monotonic() + SWEEP_INTERVAL_S
        _wait_for_message(connection, stop)


def _wait_for_message(connection: Connection, stop: threading.Event) -> None:
    """Until a message is written, at most the keeper's interval; a stop is seen within a second."""
    end = time.monotonic() + settings().maintenance_interval_s
    while not stop.is_set() and (left := end - time.monotonic()) > 0:
        for _ in connection.notifies(timeout=min(left, 0.5), stop_after=1):
            return


def reap() -> None:
    """Take back the jobs of workers that were not heard of; wake those that have waited enough."""
    with transaction() as session:
        num_lost = jobs.reap_expired_leases(session)
        jobs.wake_delayed_jobs(session)
        failpoint("maintenance.reaped")
    if num_lost:
        log.warning("leases_expired", jobs=num_lost)


def remind() -> None:
    """Send another message where jobs wait for long: the first may be lost."""
    with transaction() as session:
        outbox.remind(session)


def relay() -> None:
    """Send the outbox. A broker that is away leaves it as it was."""
    try:
        with transaction() as session:
            for queue_name, count in outbox.take_messages(session).items():
                failpoint("maintenance.taken")
                for _ in range(min(count, MAX_MESSAGES)):
                    send_notification(queue_name)
                failpoint("maintenance.sent")
    except BrokerError as error:
        log.warning("broker_unavailable", error=str(error))


def delete_expired() -> None:
    """Delete rows that have had their time."""
    now = func.now()
    old = now - timedelta(seconds=settings().idempotency_s)
    with transaction() as session:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < old))
        session.execute(delete(LoginCode).where(LoginCode.expires_at < now))
        session.execute(delete(DashboardSession).where(DashboardSession.expires_at < now))
        session.execute(delete(Worker).where(Worker.seen_at < old))
        teacher_caches.evict(session)
        used = [
            Upload.id.in_(select(table.upload_id).where(table.upload_id.is_not(None)))
            for table in (Dataset, Model)
        ]
        session.execute(delete(Upload).where(Upload.expires_at < now, not_(or_(*used))))


class OrphanCollector:
    """Objects that no row names. One is deleted when it was an orphan in two sweeps and is old.

    A young one's row may be on its way. Content-addressed keys may come to be used again, so that
    each is looked at once more at the very moment.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def delete_orphans(self) -> None:
        """Delete what was already seen at the last call; remember what is seen now."""
        young = datetime.now(UTC) - timedelta(seconds=settings().orphan_grace_s)
        old_keys = {
            entry.key for entry in object_store.list_objects() if entry.last_modified < young
        }
        orphans = old_keys - _referenced_keys(old_keys)
        for key in orphans & self._seen:
            modified = object_store.last_modified(key)
            if modified is not None and modified < young and not _referenced_keys({key}):
                object_store.delete(key)
                log.info("orphan_deleted", key=key)
        self._seen = orphans


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """A few at a time: a query takes no more than 65,535 values."""
    left = iter(keys)
    while batch := list(itertools.islice(left, KEY_BATCH_SIZE)):
        yield batch


def _referenced_keys(keys: set[str]) -> set[str]:
    """Those of the keys that a row names."""
    tables = (Artifact, Checkpoint, Dataset, Model, TeacherCache, UploadPart)
    columns = [table.object_key for table in tables]
    referenced: set[str] = set()
    for batch in _batches(keys):
        with transaction() as session:
            for column in (*columns, Model.onnx_object_key):
                rows = session.scalars(select(column).where(column.in_(batch)))
                referenced.update(key for key in rows if key is not None)
    return referenced


def _run_guarded(task: Callable[[], None]) -> None:
    """One task's trouble with the database must not keep the others from their work."""
    try:
        task()
    except (SQLAlchemyError, OSError) as error:
        log.warning("maintenance_task_failed", task=task.__name__, error=str(error))


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logs.configure()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    run_maintenance(stop)


if __name__ == "__main__":
    main()
