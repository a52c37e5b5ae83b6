"""Garbage collection: expired rows, and objects of the store that no row names."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete, func, not_, or_, select

from store import object_store, teacher_caches
from store.database import transaction
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

log = structlog.get_logger()
KEY_BATCH_SIZE = 1000


def delete_expired() -> None:
    """Delete rows that have expired, and teacher caches beyond the limit of their project."""
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
    """Deletes objects that no row names, once they are old and two sweeps have seen them so.

    The row of a young object may still be written. A content-addressed key may be used again, so
    each key is checked once more just before it is deleted.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def delete_orphans(self) -> None:
        """Delete orphans that the last call saw, too; remember those of this call."""
        young = datetime.now(UTC) - timedelta(seconds=settings().orphan_grace_s)
        old_keys = {
            entry.key for entry in object_store.list_objects() if entry.last_modified < young
        }
        orphans = old_keys - referenced_keys(old_keys)
        for key in orphans & self._seen:
            modified = object_store.last_modified(key)
            if modified is not None and modified < young and not referenced_keys({key}):
                object_store.delete(key)
                log.info("orphan_deleted", key=key)
        self._seen = orphans


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """Split the keys: a query takes at most 65,535 values."""
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, KEY_BATCH_SIZE)):
        yield batch


def referenced_keys(keys: set[str]) -> set[str]:
    """The subset of the keys that a row names."""
    tables = (Artifact, Checkpoint, Dataset, Model, TeacherCache, UploadPart)
    columns = [table.object_key for table in tables]
    referenced: set[str] = set()
    for batch in _batches(keys):
        with transaction() as session:
            for column in (*columns, Model.onnx_object_key):
                rows = session.scalars(select(column).where(column.in_(batch)))
                referenced.update(key for key in rows if key is not None)
    return referenced
