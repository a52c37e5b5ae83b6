"""Garbage collection: expired rows, and objects of the store that no row names."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, delete, func, not_, or_, select
from sqlalchemy.orm import Session

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
        session.execute(delete(Upload).where(Upload.expires_at < now, not_(_is_used())))
        _discard_refused_uploads(session)


def _is_used(*, unless_failed: bool = False) -> ColumnElement[bool]:
    """Whether a data set or model was created from an upload; optionally only if one is usable."""
    queries = []
    for table in (Dataset, Model):
        query = select(table.upload_id).where(table.upload_id.is_not(None))
        queries.append(query.where(table.state != "failed") if unless_failed else query)
    return or_(*(Upload.id.in_(query) for query in queries))


def _discard_refused_uploads(session: Session) -> None:
    """Discard expired uploads that only failed data sets and models use; their rows stay.

    The bytes become orphans. A request that uses the upload again at this moment holds its lock.
    """
    in_use = _is_used(unless_failed=True)
    expired = select(Upload).where(
        Upload.state == "complete", Upload.expires_at < func.now(), _is_used(), not_(in_use)
    )
    for upload in session.scalars(expired.with_for_update(skip_locked=True)):
        upload.parts.clear()
        upload.state = "discarded"


class OrphanCollector:
    """Deletes objects that no row names, once they are old and two sweeps have seen them so.

    The row of a young object may still be written. A content-addressed key may be used again, so
    each key is checked once more just before it is deleted.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def delete_orphans(self) -> None:
        """Delete the orphans that the previous call saw, too; the next call deletes the others."""
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
