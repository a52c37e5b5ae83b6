"""Teachers' answers between the object store and the folder that this machine's engines share.

They save time and nothing else: whatever goes wrong with them, the run asks its teacher itself.
"""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from kdcore.protocol.events import AnswersEvent, AnyEvent
from kdcore.schema.job import ResolvedJob
from store import object_store, teacher_caches
from store.database import transaction
from store.object_store import CorruptBlobError
from store.settings import settings
from store.tables import Dataset, Job, Model, TeacherCache
from store.teacher_caches import Asked
from worker.files import asset_cache

log = structlog.get_logger()
AT_ONCE_BYTES = 64 * 2**20
"""That are there before a run begins; its first epochs are longer than what follows takes."""


def folder() -> Path:
    """Beside the other files that runs share: what was not used for longest goes first."""
    return settings().work_dir / "cache"


def bring(job: Job, resolved: ResolvedJob) -> None:
    """Have what the first epochs ask of the job's teachers in the folder, as far as it is kept."""
    size_bytes = 0
    for row in _kept(job, resolved):
        size_bytes += row.size_bytes
        if size_bytes > AT_ONCE_BYTES:
            return
        _bring(row)


@contextlib.contextmanager
def coming(job: Job) -> Iterator[None]:
    """Bring the rest while the block runs: a large data set's answers take minutes to fetch."""
    if job.lane != "train":
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_bring_all, args=(job, over), name="answers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A store that hangs keeps nobody: what comes late is in the folder for the next run.
        thread.join(timeout=1.0)


class _Over(Exception):  # noqa: N818 - no fault
    """The run has ended."""


def _bring_all(job: Job, over: threading.Event) -> None:
    def check() -> None:
        if over.is_set():
            raise _Over

    try:
        with object_store.interruptible(check):
            for row in _kept(job, _resolved(job)):
                check()
                _bring(row)
    except _Over:
        return
    except (OSError, SQLAlchemyError) as error:
        log.warning("answers_not_fetched", job=job.id, error=str(error))


def _kept(job: Job, resolved: ResolvedJob) -> Iterator[TeacherCache]:
    """The project's rows that may serve the job, student by student, while there is room."""
    views = resolved.training.views
    if views == "fresh" or not resolved.teachers:
        return
    with transaction() as session:
        asked = [one for one in _asked(session, job, resolved) if one is not None]
        seeds = resolved.view_seeds
        found = teacher_caches.matching(session, job.project_id, asked, seeds)
    folder().mkdir(parents=True, exist_ok=True)
    for row in sorted(found, key=lambda row: (seeds.index(row.seed), row.view)):
        # Nothing is cleared away for them: it may be what this very run has just brought.
        if row.view <= views and asset_cache.fits(row.size_bytes):
            yield row


def _bring(row: TeacherCache) -> None:
    path = folder() / f"answers-{row.key}.safetensors"
    beside = path.with_suffix(".json")
    with contextlib.suppress(FileNotFoundError):  # whoever needs room may clear away either
        os.utime(path)
        os.utime(beside)
        return
    try:
        object_store.fetch([row.object_key], path, row.sha256)
        _tell(row, beside)
    except (FileNotFoundError, CorruptBlobError) as error:
        log.warning("answers_gone", key=row.object_key, error=str(error))
        with transaction() as session:
            lost = session.get(TeacherCache, row.id)
            if lost is not None:
                session.delete(lost)
    except OSError as error:
        log.warning("answers_not_fetched", key=row.object_key, error=str(error))


def _tell(row: TeacherCache, beside: Path) -> None:
    partial = beside.with_name(f".{beside.name}.{secrets.token_hex(8)}.part")
    partial.write_text(json.dumps({"sha256": row.sha256, "seconds": row.seconds}))
    partial.replace(beside)


def upload(job: Job, batch: Sequence[AnyEvent]) -> dict[str, str]:
    """Store what the batch tells of and no row knows; the object's key by the answers' key."""
    told = {event.key: event for event in batch if isinstance(event, AnswersEvent)}
    if not told:
        return {}
    try:
        with transaction() as session:
            known = teacher_caches.known(session, job.project_id, list(told))
        return {key: _upload(job, told[key]) for key in told.keys() - known}
    except (OSError, SQLAlchemyError) as error:
        log.warning("answers_not_stored", job=job.id, error=str(error))
        return {}


def _upload(job: Job, event: AnswersEvent) -> str:
    object_key = f"{job.project_id}/teacher-caches/{event.sha256}"
    object_store.put_file(object_key, folder() / Path(event.name).name)
    return object_key


def note(session: Session, job: Job, event: AnswersEvent, stored: dict[str, str]) -> None:
    """The row of what was stored, or the use of one that is there."""
    teacher_caches.used(session, job, event)
    if event.key not in stored:
        return
    asked = _asked(session, job, _resolved(job))
    whose = asked[event.teacher] if event.teacher < len(asked) else None
    if whose is not None:
        teacher_caches.add(session, job, event, whose, stored[event.key])


def _resolved(job: Job) -> ResolvedJob:
    return ResolvedJob.model_validate(
        {name: value for name, value in job.resolved.items() if name != "chosen"}
    )


def _asked(session: Session, job: Job, resolved: ResolvedJob) -> list[Asked | None]:
    dataset = session.get(Dataset, job.dataset_id)
    models = [session.get(Model, teacher.model) for teacher in resolved.teachers]
    if dataset is None:
        return []
    augmentation = resolved.training.model_dump(mode="json")["augmentation"]
    return [None if model is None else Asked(model, dataset, augmentation) for model in models]
