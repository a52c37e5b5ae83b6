"""The end of a run: one handler for each RunEnd writes what becomes of the job."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from kdcore.protocol.requests import ExitCode
from kdcore.runtime.failpoints import failpoint
from store import event_log, jobs, object_store
from store.settings import settings
from store.tables import Job, Run
from worker.files.workdirs import OutsideWorkdirError
from worker.kinds import handlers
from worker.kinds.base import ResultRejectedError
from worker.retry import enter_phase, retry_transient, write_fenced
from worker.run_result import RunEnd, RunResult

log = structlog.get_logger()
Handler = Callable[[Job, RunResult, Path], None]
_DISK_FULL_MESSAGE = "the disk of the worker is full; the job's checkpoints are safe"


def finalize_run(job: Job, result: RunResult, workdir: Path) -> None:
    """End, requeue or fail the job. Raises LeaseLostError if the job has moved on."""
    _HANDLERS[result.end](job, result, workdir)


def fail_disk_full(job: Job, error: Exception) -> bool:
    """Fail a job because the work folder is full; False if that could not be written either."""
    log.error("disk_full", job=job.id, error=str(error))
    try:
        _fail_no_space(job)
    except (jobs.LeaseLostError, SQLAlchemyError):
        return False
    return True


def _publish(job: Job, result: RunResult, workdir: Path) -> None:
    enter_phase(job, "uploading")
    publish = handlers()[job.kind].publish
    try:
        publication = retry_transient(lambda: publish(job, result.outputs, workdir))
    except ResultRejectedError as rejection:
        _fail_and_discard(job, rejection.error, "user_error")
        return
    except OutsideWorkdirError as error:
        finalize_run(job, RunResult(RunEnd.OUTPUT_REFUSED, message=str(error)), workdir)
        return
    failpoint("worker.uploaded")
    write_fenced(job, lambda session, row: jobs.succeed(session, row, *publication))


def _release(job: Job, result: RunResult, workdir: Path) -> None:
    write_fenced(job, lambda session, row: jobs.release(session, row, result.end.value))


def _fail_with_engine_error(job: Job, result: RunResult, workdir: Path) -> None:
    exit_code = ExitCode(result.exit_code or 0)
    error = dict(result.error or {}) | {"retryable": exit_code == ExitCode.OUT_OF_MEMORY}
    _fail_and_discard(job, error, exit_code.name.lower())


def _fail_refused(job: Job, result: RunResult, workdir: Path) -> None:
    _fail_and_discard(job, result.error or {}, result.end.value)


def _fail_timed_out(job: Job, result: RunResult, workdir: Path) -> None:
    _fail_and_discard(job, _error("deadline_exceeded", result.message), result.end.value)


def _fail_unreadable_inputs(job: Job, result: RunResult, workdir: Path) -> None:
    message = f"an input of the job cannot be read from the object store: {result.message}"
    error = _error("storage_unavailable", message)
    write_fenced(job, lambda session, row: jobs.fail(session, row, error, result.end.value))


def _fail_no_space(job: Job, *_: object) -> None:
    error = _error("storage_unavailable", _DISK_FULL_MESSAGE)
    _fail_and_discard(job, error, RunEnd.NO_SPACE.value)


def _fail_refused_output(job: Job, result: RunResult, workdir: Path) -> None:
    log.error("engine_output_refused", job=job.id, error=result.message)
    error = _error("internal", result.message, retryable=False)
    _fail_and_discard(job, error, result.end.value)


def _count_lost(job: Job, result: RunResult, workdir: Path) -> None:
    write_fenced(job, lambda session, row: jobs.handle_lost_run(session, row, result.message))


def _count_stalled(job: Job, result: RunResult, workdir: Path) -> None:
    message = f"{result.message} and was ended"
    write_fenced(
        job, lambda session, row: jobs.handle_lost_run(session, row, message, result.end.value)
    )


def _retry_storage(job: Job, result: RunResult, workdir: Path) -> None:
    """Queue the job again after a delay; fail it when that has happened too often in a row."""
    log.warning("storage_unavailable", job=job.id, error=result.message)
    max_retries, run_exit = settings().storage_retries, result.end.value
    message = f"the object store was unavailable for {max_retries} runs: {result.message}"

    def write(session: Session, row: Job) -> None:
        exits_query = select(Run.exit).where(Run.job_id == row.id, Run.exit.is_not(None))
        exits = session.scalars(exits_query.order_by(Run.number.desc()).limit(max_retries)).all()
        if exits.count(run_exit) == max_retries:
            jobs.fail(session, row, _error("storage_unavailable", message), run_exit)
        else:
            jobs.release(session, row, run_exit, settings().storage_retry_delay_s)

    write_fenced(job, write)


def _handle_crash(job: Job, result: RunResult, workdir: Path) -> None:
    """Queue the job once more; a second crash fails it."""
    message = f"the engine ended with exit code {result.exit_code}"
    tail = result.message.splitlines()[-1] if result.message else ""
    log.error("engine_crashed", job=job.id, exit=result.exit_code, stderr=result.message)

    def write(session: Session, row: Job) -> None:
        row.crashes += 1
        event_log.append(session, row, "log", {"level": "error", "message": f"{message}: {tail}"})
        if row.crashes > settings().max_crashes:
            error = _error("internal", f"{message}, twice: {tail}", retryable=False)
            jobs.fail(session, row, error, result.end.value)
        else:
            jobs.release(session, row, result.end.value)

    write_fenced(job, write)


_HANDLERS: dict[RunEnd, Handler] = {
    RunEnd.DONE: _publish,
    RunEnd.STOPPED: _release,
    RunEnd.ENGINE_ERROR: _fail_with_engine_error,
    RunEnd.NO_SPACE: _fail_no_space,
    RunEnd.KILLED: _count_lost,
    RunEnd.STALLED: _count_stalled,
    RunEnd.CRASHED: _handle_crash,
    RunEnd.TIMED_OUT: _fail_timed_out,
    RunEnd.REFUSED: _fail_refused,
    RunEnd.INPUTS_UNREADABLE: _fail_unreadable_inputs,
    RunEnd.STORAGE_UNAVAILABLE: _retry_storage,
    RunEnd.OUTPUT_REFUSED: _fail_refused_output,
}


def _error(code: str, message: str, *, retryable: bool = True) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": None, "retryable": retryable, "items": []}


def _fail_and_discard(job: Job, error: dict[str, Any], run_exit: str) -> None:
    """Fail the job. Delete the bytes of its upload if they are invalid."""
    keys: list[str] = []

    def write(session: Session, row: Job) -> None:
        upload = jobs.opened_upload(session, row)
        part_keys = [part.object_key for part in upload.parts] if upload else []
        jobs.fail(session, row, error, run_exit)
        keys[:] = part_keys if upload and upload.state == "discarded" else []

    write_fenced(job, write)
    for key in keys:
        with contextlib.suppress(OSError):  # garbage collection deletes what stays
            object_store.delete(key)
