"""WorkerLoop: a slot of a worker claims the next job of its queue, runs it, and looks again.

JobRun is one run of a claimed job, from its inputs to the RunResult that ends it.
"""

import contextlib
import errno
import math
import os
import shutil
import socket
import time
from pathlib import Path

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from kdcore.runtime.failpoints import failpoint
from kdcore.schema.job_kinds import JOB_KINDS
from store import event_log, jobs, object_store
from store.database import transaction
from store.object_store import CorruptBlobError, ReadCancelledError
from store.settings import settings
from store.tables import Job
from worker.engine import download_policy, event_sink
from worker.engine.engine_process import EnginePool, EngineProcess, StallDetector
from worker.files import asset_cache, teacher_cache
from worker.files.workdirs import OutsideWorkdirError, delete_ended_sources, run_folder
from worker.finalize import fail_disk_full, finalize_run
from worker.heartbeat import Lease
from worker.kinds import handlers
from worker.kinds.base import Inputs
from worker.retry import RETRY_TIMEOUT_S, TRANSIENT_ERRORS, enter_phase, write_fenced
from worker.run_result import EngineOutputs, RunEnd, RunResult, engine_result
from worker.shutdown import ShutdownFlag, worker_shutdown

log = structlog.get_logger()


class WorkerLoop:
    """A slot with the engines that it starts. Each process of a worker has one."""

    def __init__(
        self, pool: EnginePool | None = None, shutdown: ShutdownFlag = worker_shutdown
    ) -> None:
        self.pool = pool or EnginePool()
        self._shutdown = shutdown

    def run_jobs(self, queue: str) -> None:
        """Run jobs until the queue is empty or the worker shuts down.

        Another slot may have claimed the job of a message, so an empty queue is usual.
        """
        while not self._shutdown.is_requested():
            if not asset_cache.ensure_free_space():
                log.error("no_free_space", folder=str(settings().work_dir))
                return  # another worker may have space, and maintenance sends another message
            try:
                job = _claim(queue)
            except SQLAlchemyError as error:
                log.warning("claim_failed", queue=queue, error=str(error))
                return  # maintenance sends another message while the job is queued
            if job is None:
                if queue == "train":
                    self.pool.prewarm()
                return
            failpoint("worker.claimed")
            execute_job(job, self.pool, self._shutdown)
            failpoint("worker.ended")


def _claim(queue: str) -> Job | None:
    with transaction() as session:
        return jobs.claim(session, queue, f"{queue}@{socket.gethostname()}/{os.getpid()}")


LIMIT_GRACE_S = 120.0
"""Beyond the job's own limit: the engine stops training there, then evaluates and exports."""


def execute_job(job: Job, pool: EnginePool, shutdown: ShutdownFlag) -> None:
    """Run a claimed job and write how it ended. Errors of the run are logged, not raised."""
    workdir = run_folder(job)
    log.info("run_started", job=job.id, fence=job.fence, kind=job.kind)
    try:
        workdir.mkdir(parents=True)
        with Lease(job.id, job.fence) as lease:
            result = JobRun(job, workdir, lease, pool, shutdown).execute()
            log.info("run_ended", job=job.id, fence=job.fence, end=result.end.value)
            finalize_run(job, result, workdir)
    except jobs.LeaseLostError:
        log.warning("run_lease_lost", job=job.id, fence=job.fence)
    except (SQLAlchemyError, OSError) as error:
        if _is_disk_full(error) and fail_disk_full(job, error):
            return
        # Database, object store or disk stayed unavailable. The lease expires, and maintenance
        # queues the job again.
        log.warning("run_abandoned", job=job.id, fence=job.fence, error=str(error))
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
        delete_ended_sources()


class JobRun:
    """One run of a claimed job in its work folder, while a lease is held."""

    def __init__(
        self, job: Job, workdir: Path, lease: Lease, pool: EnginePool, shutdown: ShutdownFlag
    ) -> None:
        self._job = job
        self._workdir = workdir
        self._lease = lease
        self._pool = pool
        self._shutdown = shutdown
        self._outputs = EngineOutputs()

    def execute(self) -> RunResult:
        """Fetch the inputs, start the engine, store its events until it has ended.

        Raises:
            LeaseLostError: the job belongs to another run; nothing may be written any more.
        """
        enter_phase(self._job, "fetching")
        inputs = self._load_inputs()
        if isinstance(inputs, RunResult):
            return inputs
        failpoint("worker.fetched")
        with inputs.source_server or contextlib.nullcontext():
            result = self._run_engine(inputs)
        if inputs.source_server is not None and inputs.source_server.unavailable is not None:
            return RunResult(RunEnd.STORAGE_UNAVAILABLE, message=inputs.source_server.unavailable)
        return result

    def _run_engine(self, inputs: Inputs) -> RunResult:
        command, server = JOB_KINDS[self._job.kind].command, inputs.source_server
        descriptors = () if server is None else (server.engine_fd,)
        engine = self._pool.start(command, inputs.request, self._workdir, descriptors)
        try:
            if server is not None:
                server.start()
            with teacher_cache.download_in_background(self._job):
                return self._follow(engine, inputs.time_limit_s or self._time_limit_s())
        except OutsideWorkdirError as error:
            return RunResult(RunEnd.OUTPUT_REFUSED, message=str(error))
        finally:
            engine.kill()

    def _load_inputs(self) -> Inputs | RunResult:
        """The inputs, or the result of a run that ends without an engine."""
        try:
            with object_store.interruptible(self._must_stop):
                inputs = self._load_inputs_twice()
        except ReadCancelledError:
            return RunResult(RunEnd.STOPPED)
        except (CorruptBlobError, FileNotFoundError, NoResultFound) as error:
            return RunResult(RunEnd.INPUTS_UNREADABLE, message=str(error))
        except OSError as error:
            if _is_disk_full(error):
                raise
            return RunResult(RunEnd.STORAGE_UNAVAILABLE, message=str(error))
        if download_policy.needs_download(inputs.request) and not settings().downloads:
            return RunResult(RunEnd.REFUSED, error=download_policy.DOWNLOADS_DISABLED_ERROR)
        if inputs.warnings:
            write_fenced(self._job, lambda session, row: _log_warnings(session, row, inputs))
        return inputs

    def _load_inputs_twice(self) -> Inputs:
        load_inputs = handlers()[self._job.kind].load_inputs
        try:
            return load_inputs(self._job, self._workdir)
        except CorruptBlobError as error:
            # Bytes that were damaged on their way are intact the second time.
            log.warning("inputs_fetched_again", job=self._job.id, error=str(error))
            return load_inputs(self._job, self._workdir)

    def _must_stop(self) -> bool:
        """Whether a user's action or a shutdown ends the run. Raises if the lease is lost."""
        if self._lease.lost:
            raise jobs.LeaseLostError(self._job.id)
        return self._lease.desired_state != "run" or self._shutdown.is_requested()

    def _follow(self, engine: EngineProcess, time_limit_s: float) -> RunResult:
        """Store the engine's events until it has ended and all of them are stored."""
        stall_detector = StallDetector(self._workdir)
        deadline = time.monotonic() + time_limit_s
        upload_deadline = math.inf
        while True:
            ended = engine.process.poll() is not None
            if self._must_stop() or engine.stop_requested:
                engine.request_stop()
            if ended:
                upload_deadline = min(upload_deadline, time.monotonic() + RETRY_TIMEOUT_S)
            elif time.monotonic() > deadline:
                message = f"the run was ended after {time_limit_s:.0f} s, beyond its time limit"
                return RunResult(RunEnd.TIMED_OUT, self._outputs, message)
            elif self._is_stalled(stall_detector):
                message = f"the engine made no progress for {stall_detector.pause_s:.0f} s"
                return RunResult(RunEnd.STALLED, self._outputs, message)
            # The end of a run does not wait long for an object store that stays unavailable.
            upload_files = time.monotonic() < upload_deadline
            if not self._store_new_events(engine, upload_files) and ended:
                return engine_result(
                    engine.process.returncode,
                    self._outputs,
                    ended_by_us=engine.ended_by_us,
                    stderr_tail=engine.stderr_tail(),
                )
            if not ended:
                self._pool.poll()
                engine.truncate_stderr()
                time.sleep(settings().poll_s)

    def _time_limit_s(self) -> float:
        """Seconds after which a running engine counts as hung.

        The engine enforces the job's own limits earlier.
        """
        if self._job.queue == "prepare":
            return settings().prepare_wall_s
        every_limit = self._job.resolved.get("limits", {}).values()
        limits = [limit for limit in every_limit if limit is not None]
        return min(limits) - self._job.device_s + LIMIT_GRACE_S if limits else math.inf

    def _is_stalled(self, stall_detector: StallDetector) -> bool:
        stall_detector.update()
        # Preparations have a time limit of their own: a download of gigabytes has no batches.
        return self._job.queue == "train" and stall_detector.pause_s > stall_detector.max_pause_s

    def _store_new_events(self, engine: EngineProcess, upload_files: bool) -> bool:
        """Store the next batch of events. Returns whether there was one."""
        batch, offset = engine.read_events()
        if not batch:
            return False
        try:
            event_sink.store_events(self._job, batch, self._workdir, upload_files=upload_files)
        except TRANSIENT_ERRORS as error:
            # Database or object store unavailable: the engine goes on, its file keeps the events.
            log.warning("events_not_stored", job=self._job.id, error=str(error))
            time.sleep(settings().poll_s)
            return True
        engine.mark_stored(offset)
        for event in batch:
            self._outputs.record(event)
            self._pool.on_event(event)
        return True


def _log_warnings(session: Session, row: Job, inputs: Inputs) -> None:
    for message in inputs.warnings:
        event_log.append(session, row, "log", {"level": "warning", "message": message})


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
