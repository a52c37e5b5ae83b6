"""One run: fetch, start the engine, ship what it says, end the job by how it ended."""

import errno
import math
import shutil
import time
from pathlib import Path

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from kdcore.protocol.requests import Request
from kdcore.runtime.failpoints import failpoint
from store import event_log, jobs, object_store
from store.database import transaction
from store.object_store import CorruptBlobError
from store.settings import settings
from store.tables import Job
from worker import finalize, inputs, shutdown
from worker.engine import download_policy, event_sink
from worker.engine.engine_process import Engine
from worker.engine.stall_detector import Watch
from worker.files import teacher_cache
from worker.lease import Lease

log = structlog.get_logger()
LIMIT_GRACE_S = 120.0  # evaluation and export follow what the engine's own limit ends


class LetGo(Exception):  # noqa: N818 - what is wanted of the run
    """The run shall end although its engine has not begun."""


class Stalled(Exception):  # noqa: N818 - what the engine has
    """The engine shows no sign of life any more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no progress for {seconds:.0f} s")
        self.seconds = seconds


def run(job: Job) -> None:
    """Bring a claimed job as far as it goes. Never raises for what a run may meet."""
    workdir = settings().work_dir / "runs" / f"{job.id}-{job.fence}"
    log.info("run_started", job=job.id, fence=job.fence, kind=job.kind)
    try:
        workdir.mkdir(parents=True)
        with Lease(job.id, job.fence) as lease:
            _run(job, workdir, lease)
    except jobs.FencedOut:
        log.warning("run_fenced_out", job=job.id, fence=job.fence)
    except (SQLAlchemyError, OSError) as error:
        if _disk_full(error) and _said(job, error):
            return
        # Database, store or disk stayed away. The lease ends by itself, and the keeper queues the
        # job again.
        log.warning("run_abandoned", job=job.id, fence=job.fence, error=str(error))
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def _disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _said(job: Job, error: Exception) -> bool:
    """Fail the job of a worker whose disk is full: elsewhere, or later, it may be tried again."""
    try:
        finalize.disk_full(job, error)
    except (jobs.FencedOut, SQLAlchemyError):
        return False
    return True


def _run(job: Job, workdir: Path, lease: Lease) -> None:
    finalize.enter(job, "fetching")
    try:
        with object_store.interruptible(lambda: _unless_let_go(job, lease)):
            request = _fetched(job, workdir)
    except LetGo:
        finalize.let_go(job)
        return
    failpoint("worker.fetched")
    if request is None:
        return
    engine = Engine(inputs.COMMANDS[job.kind], request, workdir)
    allowed_s = _allowed_s(job)
    try:
        with teacher_cache.coming(job):
            said = _follow(job, engine, workdir, lease, time.monotonic() + allowed_s)
    except TimeoutError:
        engine.kill()
        finalize.overran(job, allowed_s)
    except Stalled as pause:
        engine.kill()
        finalize.stalled(job, pause.seconds)
    else:
        finalize.settle(job, engine, said, workdir)
    finally:
        engine.kill()


def _unless_let_go(job: Job, lease: Lease) -> None:
    if lease.lost:
        raise jobs.FencedOut(job.id)
    if lease.wanted != "run" or shutdown.begun():
        raise LetGo


def _fetched(job: Job, workdir: Path) -> Request | None:
    """The engine's request, with every file it names in place; None if the job has ended here."""
    try:
        request, damaged = _prepared(job, workdir)
    except (CorruptBlobError, FileNotFoundError, NoResultFound) as error:
        finalize.storage_failed(job, error)
        return None
    except OSError as error:
        if _disk_full(error):
            raise
        finalize.storage_away(job, error)
        return None
    if download_policy.needed(request) and not settings().downloads:
        finalize.refuse(job, download_policy.REFUSED)
        return None
    if damaged:
        with transaction() as session:
            row = jobs.held(session, job.id, job.fence)
            for sentence in damaged:
                event_log.append(session, row, "log", {"level": "warning", "message": sentence})
    return request


def _prepared(job: Job, workdir: Path) -> tuple[Request, list[str]]:
    try:
        return inputs.prepare(job, workdir)
    except CorruptBlobError as error:
        # It may have been damaged on its way. Is it damaged where it lies, it will be so again.
        log.warning("fetched_again", job=job.id, error=str(error))
        return inputs.prepare(job, workdir)


def _allowed_s(job: Job) -> float:
    """When a run that is still there must be hung; the engine keeps a job's limits by itself."""
    if job.lane == "prepare":
        return settings().prepare_wall_s
    limits = [limit for limit in job.resolved.get("limits", {}).values() if limit is not None]
    return min(limits) - job.device_s + LIMIT_GRACE_S if limits else math.inf


def _follow(
    job: Job, engine: Engine, workdir: Path, lease: Lease, deadline: float
) -> event_sink.Outcome:
    """Ship the engine's events until it has ended and all are stored.

    Raises TimeoutError when it takes longer than it may, Stalled when it does not get on.
    """
    said = event_sink.Outcome()
    watch = Watch(workdir)
    patience = math.inf
    while True:
        ended = engine.process.poll() is not None
        if lease.lost:
            raise jobs.FencedOut(job.id)
        if not ended:
            _in_time(job, watch, deadline)
        if lease.wanted != "run" or shutdown.begun() or engine.stopping:
            engine.ask_to_stop()
        if ended:
            patience = min(patience, time.monotonic() + finalize.AWAY_S)
        # An engine that has ended is not kept waiting for a store that does not come back.
        if _ship(job, engine, workdir, said, time.monotonic() < patience) and ended:
            return said
        if not ended:
            engine.tend()
            time.sleep(settings().poll_s)


def _in_time(job: Job, watch: Watch, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
    watch.look()
    # What prepares has a wall of its own: a download of gigabytes has no batches.
    if job.lane == "train" and watch.pause_s > watch.bound_s:
        raise Stalled(watch.pause_s)


def _ship(
    job: Job, engine: Engine, workdir: Path, said: event_sink.Outcome, checkpoints: bool
) -> bool:
    """Store what is new. True if there was nothing; False to look again."""
    batch, offset = engine.new_events()
    if not batch:
        return True
    try:
        event_sink.ship(job, batch, workdir, checkpoints=checkpoints)
    except finalize.AWAY as error:
        # Database or object store away: the engine goes on, and what it says is kept in its file.
        log.warning("events_not_stored", job=job.id, error=str(error))
        time.sleep(settings().poll_s)
        return False
    engine.accept(offset)
    for event in batch:
        said.note(event)
        engine.heed(event)
    return False
