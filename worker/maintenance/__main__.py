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
from worker.celery_app import send

log = structlog.get_logger()
KEYS_AT_ONCE = 1000
SWEEP_S = 600.0
MESSAGES_AT_MOST = 32  # per lane and round: one message wakes a worker until its lane is empty


def keep(stop: threading.Event) -> None:
    """Work until asked to stop; a database or broker that is away is waited for."""
    while not stop.is_set():
        try:
            # Not one of the pool: LISTEN must end with this very connection.
            with connect() as connection:
                connection.autocommit = True
                _rounds(connection, stop)
        except (SQLAlchemyError, DatabaseError) as error:
            log.warning("database_away", error=str(error))
        stop.wait(settings().keeper_s)


def _rounds(connection: Connection, stop: threading.Event) -> None:
    connection.execute(f"LISTEN {outbox.CHANNEL}")
    next_sweep = next_reminder = time.monotonic()
    orphans = Orphans()
    while not stop.is_set():
        _guarded(reap)
        if time.monotonic() > next_reminder:
            _guarded(remind)
            next_reminder = time.monotonic() + settings().repoke_s
        _guarded(relay)
        if time.monotonic() > next_sweep:
            _guarded(expire)
            _guarded(orphans.delete)
            next_sweep = time.monotonic() + SWEEP_S
        _wait(connection, stop)


def _wait(connection: Connection, stop: threading.Event) -> None:
    """Until a message is written, at most the keeper's interval; a stop is seen within a second."""
    end = time.monotonic() + settings().keeper_s
    while not stop.is_set() and (left := end - time.monotonic()) > 0:
        for _ in connection.notifies(timeout=min(left, 0.5), stop_after=1):
            return


def reap() -> None:
    """Take back the jobs of workers that were not heard of; wake those that have waited enough."""
    with transaction() as session:
        lost = jobs.reap(session)
        jobs.wake(session)
        failpoint("keeper.reaped")
    if lost:
        log.warning("leases_expired", jobs=lost)


def remind() -> None:
    """Send another message where jobs wait for long: the first may be lost."""
    with transaction() as session:
        outbox.repoke(session)


def relay() -> None:
    """Send the outbox. A broker that is away leaves it as it was."""
    try:
        with transaction() as session:
            for lane, count in outbox.take(session).items():
                failpoint("keeper.taken")
                for _ in range(min(count, MESSAGES_AT_MOST)):
                    send(lane)
                failpoint("keeper.sent")
    except BrokerError as error:
        log.warning("broker_away", error=str(error))


def expire() -> None:
    """Delete rows that have had their time."""
    now = func.now()
    old = now - timedelta(seconds=settings().idempotency_s)
    with transaction() as session:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < old))
        session.execute(delete(LoginCode).where(LoginCode.expires_at < now))
        session.execute(delete(DashboardSession).where(DashboardSession.expires_at < now))
        session.execute(delete(Worker).where(Worker.seen_at < old))
        teacher_caches.forget(session)
        used = [
            Upload.id.in_(select(table.upload_id).where(table.upload_id.is_not(None)))
            for table in (Dataset, Model)
        ]
        session.execute(delete(Upload).where(Upload.expires_at < now, not_(or_(*used))))


class Orphans:
    """Objects that no row names. One is deleted when it was an orphan in two sweeps and is old.

    A young one's row may be on its way. Content-addressed keys may come to be used again, so that
    each is looked at once more at the very moment.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def delete(self) -> None:
        """Delete what was already seen at the last call; remember what is seen now."""
        young = datetime.now(UTC) - timedelta(seconds=settings().orphan_grace_s)
        found = {entry.key for entry in object_store.listing() if entry.modified < young}
        orphans = found - _named(found)
        for key in orphans & self._seen:
            modified = object_store.modified(key)
            if modified is not None and modified < young and not _named({key}):
                object_store.delete(key)
                log.info("orphan_deleted", key=key)
        self._seen = orphans


def _some(keys: Iterable[str]) -> Iterator[list[str]]:
    """A few at a time: a query takes no more than 65,535 values."""
    left = iter(keys)
    while some := list(itertools.islice(left, KEYS_AT_ONCE)):
        yield some


def _named(keys: set[str]) -> set[str]:
    """Those of the keys that a row names."""
    tables = (Artifact, Checkpoint, Dataset, Model, TeacherCache, UploadPart)
    columns = [table.object_key for table in tables]
    named: set[str] = set()
    for some in _some(keys):
        with transaction() as session:
            for column in (*columns, Model.onnx_object_key):
                found = session.scalars(select(column).where(column.in_(some)))
                named.update(key for key in found if key is not None)
    return named


def _guarded(task: Callable[[], None]) -> None:
    """One task's trouble with the database must not keep the others from their work."""
    try:
        task()
    except (SQLAlchemyError, OSError) as error:
        log.warning("keeper_task_failed", task=task.__name__, error=str(error))


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logs.configure()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keep(stop)


if __name__ == "__main__":
    main()
