"""Teachers' kept answers: which ones a job may find, and which ones go when there are too many."""

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
    """Whose answers about what: what a row says beside the engine's own words."""

    model: Model
    dataset: Dataset
    augmentation: Any


def list_matching(
    session: Session, project_id: str, inputs: Sequence[TeacherCacheInputs], seeds: Sequence[int]
) -> list[TeacherCache]:
    """What may serve, of views that one of the ``seeds`` drew.

    The engine takes what its own keys name, and leaves the rest.
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


def existing_keys(session: Session, project_id: str, keys: Sequence[str]) -> set[str]:
    """Those of the ``keys`` that have a row."""
    query = select(TeacherCache.key).where(
        TeacherCache.project_id == project_id, TeacherCache.key.in_(keys)
    )
    return set(session.scalars(query))


def record_use(session: Session, job: Job, event: TeacherCacheEvent) -> None:
    """A run of ``job`` has the answers: a hit, unless the same job, or this run, asked for them."""
    values: dict[str, Any] = {
        "used_at": func.now(),
        "seed": event.seed,  # rows of older versions say a job's first seed
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
    """Keep a row of answers that are stored; another run may have been first with the same."""
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
    session.execute(insert(TeacherCache).values(row).on_conflict_do_nothing())


def evict(session: Session) -> None:
    """Drop the least recently used rows of projects that keep more than they may.

    Their objects are then nobody's, and go as such.
    """
    cumulative_bytes = func.sum(TeacherCache.size_bytes).over(
        partition_by=TeacherCache.project_id,
        order_by=(TeacherCache.used_at.desc(), TeacherCache.id.desc()),
    )
    sums = select(TeacherCache.id, cumulative_bytes.label("total")).subquery()
    over = select(sums.c.id).where(sums.c.total > settings().teacher_cache_bytes)
    session.execute(delete(TeacherCache).where(TeacherCache.id.in_(over)))
