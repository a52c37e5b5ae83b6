"""How a run ended, and what becomes of the job."""

import contextlib
import statistics
import time
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from kdcore.protocol.requests import ExitCode
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.catalog import architectures
from store import event_log, jobs, object_store
from store.database import transaction
from store.settings import settings
from store.tables import Dataset, Job, Model, Run, Upload
from worker.engine.engine_process import EngineProcess
from worker.engine.event_sink import RunResult
from worker.files import artifact_upload

log = structlog.get_logger()
RETRY_TIMEOUT_S = 20.0
"""How long a database or store that is away is waited for at a run's end: less than a drain may."""
# What passes by itself. Anything else that the database says of a batch it would say for ever.
TRANSIENT_ERRORS = (OperationalError, InterfaceError, PoolTimeout, OSError)
_DISK_FULL_MESSAGE = (
    "the disk of the worker is full; the checkpoints of this job are not touched by it"
)


def finalize_run(job: Job, engine: EngineProcess, result: RunResult, workdir: Path) -> None:
    """End, requeue or fail the job by the engine's exit; raises FencedOut if it has moved on."""
    code = engine.process.returncode
    log.info("run_ended", job=job.id, fence=job.fence, exit=code)
    if code == ExitCode.DONE and result.report is not None:
        _succeed(job, result, workdir)
    elif code == ExitCode.STOPPED or engine.ended_by_us:
        release_run(job)
    elif (
        code in (ExitCode.USER_ERROR, ExitCode.OUT_OF_MEMORY, ExitCode.NON_FINITE) and result.error
    ):
        error = result.error.model_dump(include={"code", "message", "hint", "items"}, mode="json")
        _fail_and_discard(
            job, error | {"retryable": code == ExitCode.OUT_OF_MEMORY}, ExitCode(code).name.lower()
        )
    elif code == ExitCode.NO_SPACE:
        _fail_and_discard(
            job, _error("storage_unavailable", _DISK_FULL_MESSAGE, retryable=True), "no_space"
        )
    elif code < 0:
        _write_fenced(
            job, lambda session, row: jobs.handle_lost_run(session, row, _signal_message(-code))
        )
    else:
        _handle_crash(job, code, engine.stderr_tail())


def release_run(job: Job) -> None:
    """The run shall not go on, and no engine of it runs."""
    _write_fenced(job, lambda session, row: jobs.release(session, row, "stopped"))


def fail_refused(job: Job, error: dict[str, Any]) -> None:
    """This worker may not do what the job needs, and neither may another one."""
    _fail_and_discard(job, error, "refused")


def fail_overrun(job: Job, seconds: float) -> None:
    """The engine did not end by itself in the time that it was given."""
    message = f"the run was ended after {seconds:.0f} s: it did not stop at its limit by itself"
    _fail_and_discard(job, _error("deadline_exceeded", message, retryable=True), "timed_out")


def fail_unreadable_inputs(job: Job, error: Exception) -> None:
    """The run's inputs could not be had."""
    message = f"what the job needs could not be read from the object store: {error}"
    failure = _error("storage_unavailable", message, retryable=True)
    _write_fenced(job, lambda session, row: jobs.fail(session, row, failure, "storage_unavailable"))


def fail_disk_full(job: Job, error: Exception) -> None:
    """There is no room for the run in the work folder."""
    log.error("disk_full", job=job.id, error=str(error))
    _fail_and_discard(
        job, _error("storage_unavailable", _DISK_FULL_MESSAGE, retryable=True), "no_space"
    )


def record_stall(job: Job, seconds: float) -> None:
    """The engine showed no sign of life for longer than its own pauses allow."""
    message = f"the engine made no progress for {seconds:.0f} s and was ended"
    _write_fenced(job, lambda session, row: jobs.handle_lost_run(session, row, message, "stalled"))


def retry_unavailable_storage(job: Job, error: Exception) -> None:
    """The object store does not serve just now: a later run may do, but not for ever."""
    log.warning("storage_unavailable", job=job.id, error=str(error))
    message = f"the object store was away for {settings().storage_retries} runs: {error}"
    failure = _error("storage_unavailable", message, retryable=True)

    def write(session: Session, row: Job) -> None:
        exits_query = select(Run.exit).where(Run.job_id == row.id, Run.exit.is_not(None))
        exits = session.scalars(
            exits_query.order_by(Run.number.desc()).limit(settings().storage_retries)
        )
        recent_exits = exits.all()
        if len(recent_exits) == settings().storage_retries and set(recent_exits) == {
            "storage_retry"
        }:
            jobs.fail(session, row, failure, "storage_retry")
        else:
            jobs.release(session, row, "storage_retry", settings().storage_retry_delay_s)

    _write_fenced(job, write)


def _succeed(job: Job, result: RunResult, workdir: Path) -> None:
    enter_phase(job, "uploading")
    report = result.report or {}
    if job.kind in ("distill", "evaluate"):
        files = _retry_transient(
            lambda: artifact_upload.upload_artifacts(job, result.artifacts, workdir)
        )
        failpoint("worker.uploaded")
        _write_fenced(job, lambda session, row: jobs.succeed(session, row, report, files))
        return
    if job.kind == "warm":  # what it has made are the rows of its answers
        _write_fenced(job, lambda session, row: jobs.succeed(session, row, {}, []))
        return
    if job.kind == "ingest":
        fields: dict[str, Any] = {"info": report}
    elif job.kind == "convert":
        fields = report
    elif report.get("normalization") is not None:
        fields = _pretrained_model_fields(job, report)
    else:
        normalization = _model_normalization(job, report["in_channels"])
        if normalization is None:
            _fail_and_discard(job, _NORMALIZATION_MISMATCH, "user_error")
            return
        fields = {name: report[name] for name in ("in_channels", "num_params")}
        fields["normalization"] = normalization
    stored = _retry_transient(
        lambda: artifact_upload.upload_asset(job, result.artifacts[0], workdir)
    )
    _write_fenced(job, lambda session, row: jobs.succeed(session, row, fields | stored, []))


def _pretrained_model_fields(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """All that published weights say of themselves; the license only where the user said none."""
    with transaction() as session:
        user_license = session.get_one(Model, job.model_id).license
    return report | {"license": user_license or report["license"]}


def _model_normalization(job: Job, channels: int) -> dict[str, Any] | None:
    """A model's normalization for the channels that its weights turned out to have."""
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    model_normalization = model.normalization or {}
    if len(model_normalization["mean"]) == channels:
        return model_normalization
    # The catalog is made for color: a gray network takes the mean of its three channels.
    architecture_normalization = architectures()[model.architecture].normalization.model_dump(
        mode="json"
    )
    if model_normalization != architecture_normalization or channels != 1:
        return None
    return {name: [statistics.fmean(values)] for name, values in architecture_normalization.items()}


def _fail_and_discard(job: Job, error: dict[str, Any], run_exit: str) -> None:
    """The recipe or the bytes are at fault; bytes that are bad are deleted, their row is kept."""
    keys: list[str] = []

    def write(session: Session, row: Job) -> None:
        upload = _job_upload(session, row)
        part_keys = [part.object_key for part in upload.parts] if upload else []
        jobs.fail(session, row, error, run_exit)
        keys[:] = part_keys if upload and upload.state == "discarded" else []

    _write_fenced(job, write)
    for key in keys:
        with contextlib.suppress(OSError):  # the keeper deletes what stays
            object_store.delete(key)


def _job_upload(session: Session, job: Job) -> Upload | None:
    """The upload that an ingestion or verification opens."""
    if job.kind == "ingest":
        upload_id = session.get_one(Dataset, job.dataset_id).upload_id
    elif job.kind == "verify":
        upload_id = session.get_one(Model, job.model_id).upload_id
    else:
        return None
    return session.get(Upload, upload_id) if upload_id else None


def _handle_crash(job: Job, code: int, stderr_tail: str) -> None:
    """An exception that nobody caught: once more, then it is a failure of ours."""
    message = f"the engine ended with exit code {code}"
    tail = stderr_tail.splitlines()[-1] if stderr_tail else ""
    log.error("engine_crashed", job=job.id, exit=code, stderr=stderr_tail)

    def write(session: Session, row: Job) -> None:
        row.crashes += 1
        event_log.append(session, row, "log", {"level": "error", "message": f"{message}: {tail}"})
        if row.crashes > settings().max_crashes:
            error = _error("internal", f"{message}, twice: {tail}", retryable=False)
            jobs.fail(session, row, error, "crashed")
        else:
            jobs.release(session, row, "crashed")

    _write_fenced(job, write)


_NORMALIZATION_MISMATCH = {
    "code": "checkpoint_invalid",
    "message": "normalization and network differ in the number of channels",
    "hint": "give one mean and one std for each channel that the network takes",
    "retryable": False,
    "items": [{"name": "normalization", "detail": "has another number of channels"}],
}


def _signal_message(signum: int) -> str:
    return f"the engine was killed by signal {signum}"


def _error(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": None, "retryable": retryable, "items": []}


def enter_phase(job: Job, phase: str) -> None:
    """The run has entered a phase that is its worker's, not the engine's."""
    _write_fenced(job, lambda session, row: jobs.enter_phase(session, row, phase, None))


def _write_fenced(job: Job, change: Any) -> None:
    """One fenced transaction, tried again while the database is away for a moment."""

    def attempt() -> None:
        with transaction() as session:
            change(session, jobs.lock_leased_job(session, job.id, job.fence))

    _retry_transient(attempt)


def _retry_transient(action: Any) -> Any:
    end, pause_s = time.monotonic() + RETRY_TIMEOUT_S, 0.25
    while True:
        try:
            return action()
        except TRANSIENT_ERRORS as error:
            if time.monotonic() > end:
                raise
            log.warning("retrying", error=str(error))
            time.sleep(pause_s)
            pause_s = min(4.0, 2 * pause_s)
