"""The teacher cache of a machine: teacher outputs between the object store and the shared folder.

The cache only saves time. Whatever fails here is logged, and the run computes the outputs itself.
"""

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from kdcore.protocol.events import AnyEvent, TeacherCacheEvent
from kdcore.protocol.teacher_cache_files import TeacherCacheSidecar, teacher_cache_file_name
from kdcore.schema.job import ResolvedJob
from store import object_store, teacher_caches
from store.database import transaction
from store.object_store import CorruptBlobError, ReadCancelledError
from store.settings import settings
from store.tables import Dataset, Job, Model, TeacherCache
from store.teacher_caches import TeacherCacheInputs
from worker.files import asset_cache

log = structlog.get_logger()


def cache_folder() -> Path:
    """The folder of the asset cache: the least recently used file of both is deleted first."""
    return settings().work_dir / "cache"


def prefetch(job: Job, resolved: ResolvedJob) -> None:
    """Download the views of the first epochs; the others follow while the engine trains."""
    size_bytes = 0
    for row in _matching_rows(job, resolved):
        size_bytes += row.size_bytes
        if size_bytes > settings().teacher_cache_prefetch_bytes:
            return
        _download(row)


@contextlib.contextmanager
def download_in_background(job: Job) -> Iterator[None]:
    """Download the other views while the block runs: large ones take minutes."""
    if job.queue != "train":
        yield
        return
    run_ended = threading.Event()
    thread = threading.Thread(
        target=_download_all, args=(job, run_ended), name="teacher-cache", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        run_ended.set()
        # Not longer: an object store that hangs must not delay the end of the run.
        thread.join(timeout=1.0)


def _download_all(job: Job, run_ended: threading.Event) -> None:
    try:
        with object_store.interruptible(run_ended.is_set):
            for row in _matching_rows(job, ResolvedJob.model_validate(job.resolved)):
                if run_ended.is_set():
                    return
                _download(row)
    except ReadCancelledError:
        return
    except (OSError, SQLAlchemyError) as error:
        log.warning("teacher_cache_not_fetched", job=job.id, error=str(error))


def _matching_rows(job: Job, resolved: ResolvedJob) -> Iterator[TeacherCache]:
    """Rows of the project that may fit the job, by seed and view, while there is space."""
    views = resolved.training.views
    if views == "fresh" or not resolved.teachers:
        return
    with transaction() as session:
        inputs = [item for item in _cache_inputs(session, job, resolved) if item is not None]
        seeds = resolved.view_seeds
        rows = teacher_caches.list_matching(session, job.project_id, inputs, seeds)
    cache_folder().mkdir(parents=True, exist_ok=True)
    for row in sorted(rows, key=lambda row: (seeds.index(row.seed), row.view)):
        # No file is deleted to make space: it might be an input of this run.
        if row.view <= views and asset_cache.has_space_for(row.size_bytes):
            yield row


def _download(row: TeacherCache) -> None:
    path = cache_folder() / teacher_cache_file_name(row.key)
    sidecar = path.with_suffix(".json")
    with contextlib.suppress(FileNotFoundError):  # either file may have been evicted
        os.utime(path)
        os.utime(sidecar)
        return
    try:
        object_store.fetch([row.object_key], path, row.sha256)
        _write_sidecar(row, sidecar)
    except (FileNotFoundError, CorruptBlobError) as error:
        log.warning("teacher_cache_missing", key=row.object_key, error=str(error))
        with transaction() as session:
            damaged_row = session.get(TeacherCache, row.id)
            if damaged_row is not None:
                session.delete(damaged_row)
    except OSError as error:
        log.warning("teacher_cache_not_fetched", key=row.object_key, error=str(error))


def _write_sidecar(row: TeacherCache, sidecar: Path) -> None:
    partial = sidecar.with_name(f".{sidecar.name}.{secrets.token_hex(8)}.part")
    content = TeacherCacheSidecar(sha256=row.sha256, fill_s=row.fill_s)
    partial.write_text(content.model_dump_json())
    partial.replace(sidecar)


def upload_new_files(job: Job, batch: Sequence[AnyEvent]) -> dict[str, str]:
    """Upload the files that the batch names and that have no row yet.

    A run that found the stored outputs unusable has computed others, which are uploaded, too.
    Returns the object's key by the cache key.
    """
    events_by_key = {event.key: event for event in batch if isinstance(event, TeacherCacheEvent)}
    if not events_by_key:
        return {}
    try:
        with transaction() as session:
            digests = teacher_caches.stored_digests(session, job.project_id, list(events_by_key))
        return {
            key: _upload(job, event)
            for key, event in events_by_key.items()
            if key not in digests or not (event.hit or event.sha256 == digests[key])
        }
    except (OSError, SQLAlchemyError) as error:
        log.warning("teacher_cache_not_stored", job=job.id, error=str(error))
        return {}


def _upload(job: Job, event: TeacherCacheEvent) -> str:
    object_key = f"{job.project_id}/teacher-caches/{event.sha256}"
    object_store.put_file(object_key, cache_folder() / Path(event.name).name)
    return object_key


def record_event(
    session: Session, job: Job, event: TeacherCacheEvent, object_keys: dict[str, str]
) -> None:
    """Write the row of an uploaded file, or record the use of an existing row."""
    teacher_caches.record_use(session, job, event)
    if event.key not in object_keys:
        return
    inputs = _cache_inputs(session, job, ResolvedJob.model_validate(job.resolved))
    teacher_inputs = inputs[event.teacher_index] if event.teacher_index < len(inputs) else None
    if teacher_inputs is not None:
        teacher_caches.add(session, job, event, teacher_inputs, object_keys[event.key])


def _cache_inputs(
    session: Session, job: Job, resolved: ResolvedJob
) -> list[TeacherCacheInputs | None]:
    dataset = session.get(Dataset, job.dataset_id)
    models = [session.get(Model, teacher.model) for teacher in resolved.teachers]
    if dataset is None:
        return []
    augmentation = resolved.training.model_dump(mode="json")["augmentation"]
    return [
        None if model is None else TeacherCacheInputs(model, dataset, augmentation)
        for model in models
    ]
