"""Teacher caches: rows of stored teacher outputs, their use and their eviction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Integer, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kdcore.protocol.events import TeacherCacheEvent
from store.ids import new_id
from store.settings import settings
from store.tables import Dataset, Job, Model, TeacherCache


class TeacherCacheInputs(NamedTuple):
    """What teacher outputs are computed from, beside the engine's key."""

    model: Model
    dataset: Dataset
    augmentation: Any


def list_matching(
    session: Session, project_id: str, inputs: Sequence[TeacherCacheInputs], seeds: Sequence[int]
) -> list[TeacherCache]:
    """Rows that may fit a job: its inputs, with views of one of the ``seeds``.

    The engine uses the files whose keys it computes, and ignores the others.
    """
    rows: list[TeacherCache] = []
    for item in inputs:
        query = select(TeacherCache).where(
            TeacherCache.project_id == project_id,
            TeacherCache.dataset_sha256 == item.dataset.sha256,
            TeacherCache.teacher_sha256 == item.model.sha256,
            TeacherCache.seed.in_(seeds),
            TeacherCache.augmentation == item.augmentation,
        )
        rows += session.scalars(query.order_by(TeacherCache.view)).all()
    return rows


def stored_digests(session: Session, project_id: str, keys: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of the stored outputs, for those of ``keys`` that have a row."""
    query = select(TeacherCache.key, TeacherCache.sha256).where(
        TeacherCache.project_id == project_id, TeacherCache.key.in_(keys)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def record_use(session: Session, job: Job, event: TeacherCacheEvent) -> None:
    """Record the use of a row: a hit, unless this job computed the outputs."""
    values: dict[str, Any] = {
        "used_at": func.now(),
        "seed": event.seed,  # rows of older versions have the first seed of their job
    }
    if event.hit:
        values["hits"] = TeacherCache.hits + (TeacherCache.job_id != job.id).cast(Integer)
    session.execute(
        update(TeacherCache)
        .where(TeacherCache.project_id == job.project_id, TeacherCache.key == event.key)
        .values(values)
    )


def add(
    session: Session,
    job: Job,
    event: TeacherCacheEvent,
    inputs: TeacherCacheInputs,
    object_key: str,
) -> None:
    """Add a row for uploaded outputs, or let the row of their key have them."""
    row = {
        "id": new_id("tch"),
        "project_id": job.project_id,
        "key": event.key,
        "model_id": inputs.model.id,
        "dataset_id": inputs.dataset.id,
        "teacher_sha256": inputs.model.sha256,
        "dataset_sha256": inputs.dataset.sha256,
        "seed": event.seed,
        "augmentation": inputs.augmentation,
        "view": event.view,
        "num_samples": event.num_samples,
        "object_key": object_key,
        "sha256": event.sha256,
        "size_bytes": event.size_bytes,
        "fill_s": event.fill_s,
        "job_id": job.id,
        "hits": 0,
    }
    content = {name: row[name] for name in ("object_key", "sha256", "size_bytes", "fill_s")}
    statement = insert(TeacherCache).values(row)
    session.execute(
        statement.on_conflict_do_update(index_elements=["project_id", "key"], set_=content)
    )


def evict(session: Session) -> None:
    """Delete the least recently used rows of projects beyond their limit.

    Garbage collection then deletes the objects.
    """
    cumulative_bytes = func.sum(TeacherCache.size_bytes).over(
        partition_by=TeacherCache.project_id,
        order_by=(TeacherCache.used_at.desc(), TeacherCache.id.desc()),
    )
    sums = select(TeacherCache.id, cumulative_bytes.label("total")).subquery()
    over = select(sums.c.id).where(sums.c.total > settings().teacher_cache_bytes)
    session.execute(delete(TeacherCache).where(TeacherCache.id.in_(over)))
