"""One run: fetch, start the engine, ship what it says, end the job by how it ended."""

import errno
import math
import shutil
import time
from pathlib import Path

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from kdcore.protocol.requests import EngineRequest
from kdcore.runtime.failpoints import failpoint
from store import event_log, jobs, object_store
from store.database import transaction
from store.object_store import CorruptBlobError
from store.settings import settings
from store.tables import Job
from worker import finalize, inputs, shutdown
from worker.engine import download_policy, event_sink
from worker.engine.engine_process import EngineProcess
from worker.engine.stall_detector import StallDetector
from worker.files import teacher_cache
from worker.lease import Lease

log = structlog.get_logger()
LIMIT_GRACE_S = 120.0  # evaluation and export follow what the engine's own limit ends


class RunReleased(Exception):  # noqa: N818 - what is wanted of the run
    """The run shall end although its engine has not begun."""


class EngineStalled(Exception):  # noqa: N818 - what the engine has
    """The engine shows no sign of life any more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no progress for {seconds:.0f} s")
        self.seconds = seconds


def execute_job(job: Job) -> None:
    """Bring a claimed job as far as it goes. Never raises for what a run may meet."""
    workdir = settings().work_dir / "runs" / f"{job.id}-{job.fence}"
    log.info("run_started", job=job.id, fence=job.fence, kind=job.kind)
    try:
        workdir.mkdir(parents=True)
        with Lease(job.id, job.fence) as lease:
            _execute(job, workdir, lease)
    except jobs.LeaseLostError:
        log.warning("run_lease_lost", job=job.id, fence=job.fence)
    except (SQLAlchemyError, OSError) as error:
        if _is_disk_full(error) and _report_disk_full(job, error):
            return
        # Database, store or disk stayed away. The lease ends by itself, and the keeper queues the
        # job again.
        log.warning("run_abandoned", job=job.id, fence=job.fence, error=str(error))
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _report_disk_full(job: Job, error: Exception) -> bool:
    """Fail the job of a worker whose disk is full: elsewhere, or later, it may be tried again."""
    try:
        finalize.fail_disk_full(job, error)
    except (jobs.LeaseLostError, SQLAlchemyError):
        return False
    return True


def _execute(job: Job, workdir: Path, lease: Lease) -> None:
    finalize.enter_phase(job, "fetching")
    try:
        with object_store.interruptible(lambda: _check_cancelled(job, lease)):
            request = _load_request(job, workdir)
    except RunReleased:
        finalize.release_run(job)
        return
    failpoint("worker.fetched")
    if request is None:
        return
    engine = EngineProcess(inputs.COMMANDS[job.kind], request, workdir)
    time_limit_s = _time_limit_s(job)
    try:
        with teacher_cache.download_in_background(job):
            result = _follow(job, engine, workdir, lease, time.monotonic() + time_limit_s)
    except TimeoutError:
        engine.kill()
        finalize.fail_overrun(job, time_limit_s)
    except EngineStalled as stall:
        engine.kill()
        finalize.record_stall(job, stall.seconds)
    else:
        finalize.finalize_run(job, engine, result, workdir)
    finally:
        engine.kill()


def _check_cancelled(job: Job, lease: Lease) -> None:
    if lease.lost:
        raise jobs.LeaseLostError(job.id)
    if lease.desired_state != "run" or shutdown.is_shutting_down():
        raise RunReleased


def _load_request(job: Job, workdir: Path) -> EngineRequest | None:
    """The engine's request, with every file it names in place; None if the job has ended here."""
    try:
        request, damaged = _build_request(job, workdir)
    except (CorruptBlobError, FileNotFoundError, NoResultFound) as error:
        finalize.fail_unreadable_inputs(job, error)
        return None
    except OSError as error:
        if _is_disk_full(error):
            raise
        finalize.retry_unavailable_storage(job, error)
        return None
    if download_policy.needs_download(request) and not settings().downloads:
        finalize.fail_refused(job, download_policy.DOWNLOADS_DISABLED_ERROR)
        return None
    if damaged:
        with transaction() as session:
            row = jobs.lock_leased_job(session, job.id, job.fence)
            for message in damaged:
                event_log.append(session, row, "log", {"level": "warning", "message": message})
    return request


def _build_request(job: Job, workdir: Path) -> tuple[EngineRequest, list[str]]:
    try:
        return inputs.build_request(job, workdir)
    except CorruptBlobError as error:
        # It may have been damaged on its way. Is it damaged where it lies, it will be so again.
        log.warning("inputs_fetched_again", job=job.id, error=str(error))
        return inputs.build_request(job, workdir)


def _time_limit_s(job: Job) -> float:
    """When a run that is still there must be hung; the engine keeps a job's limits by itself."""
    if job.queue == "prepare":
        return settings().prepare_wall_s
    limits = [limit for limit in job.resolved.get("limits", {}).values() if limit is not None]
    return min(limits) - job.device_s + LIMIT_GRACE_S if limits else math.inf


def _follow(
    job: Job, engine: EngineProcess, workdir: Path, lease: Lease, deadline: float
) -> event_sink.RunResult:
    """Ship the engine's events until it has ended and all are stored.

    Raises TimeoutError when it takes longer than it may, Stalled when it does not get on.
    """
    result = event_sink.RunResult()
    stall_detector = StallDetector(workdir)
    upload_deadline = math.inf
    while True:
        ended = engine.process.poll() is not None
        if lease.lost:
            raise jobs.LeaseLostError(job.id)
        if not ended:
            _check_time(job, stall_detector, deadline)
        if lease.desired_state != "run" or shutdown.is_shutting_down() or engine.stop_requested:
            engine.request_stop()
        if ended:
            upload_deadline = min(upload_deadline, time.monotonic() + finalize.RETRY_TIMEOUT_S)
        # An engine that has ended is not kept waiting for a store that does not come back.
        if (
            _store_new_events(job, engine, workdir, result, time.monotonic() < upload_deadline)
            and ended
        ):
            return result
        if not ended:
            engine.poll()
            time.sleep(settings().poll_s)


def _check_time(job: Job, stall_detector: StallDetector, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
    stall_detector.update()
    # What prepares has a wall of its own: a download of gigabytes has no batches.
    if job.queue == "train" and stall_detector.pause_s > stall_detector.max_pause_s:
        raise EngineStalled(stall_detector.pause_s)


def _store_new_events(
    job: Job, engine: EngineProcess, workdir: Path, result: event_sink.RunResult, upload_files: bool
) -> bool:
    """Store what is new. True if there was nothing; False to look again."""
    batch, offset = engine.read_events()
    if not batch:
        return True
    try:
        event_sink.store_events(job, batch, workdir, upload_files=upload_files)
    except finalize.TRANSIENT_ERRORS as error:
        # Database or object store away: the engine goes on, and what it says is kept in its file.
        log.warning("events_not_stored", job=job.id, error=str(error))
        time.sleep(settings().poll_s)
        return False
    engine.mark_stored(offset)
    for event in batch:
        result.record(event)
        engine.on_event(event)
    return False
