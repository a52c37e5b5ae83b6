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

from kdcore.protocol.requests import Exit
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.catalog import architectures
from store import event_log, jobs, object_store
from store.database import transaction
from store.settings import settings
from store.tables import Dataset, Job, Model, Run, Upload
from worker.engine.engine_process import Engine
from worker.engine.event_sink import Outcome
from worker.files import artifact_upload

log = structlog.get_logger()
AWAY_S = 20.0
"""How long a database or store that is away is waited for at a run's end: less than a drain may."""
# What passes by itself. Anything else that the database says of a batch it would say for ever.
AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
_FULL = "the disk of the worker is full; the checkpoints of this job are not touched by it"


def settle(job: Job, engine: Engine, said: Outcome, workdir: Path) -> None:
    """End, requeue or fail the job by the engine's exit; raises FencedOut if it has moved on."""
    code = engine.process.returncode
    log.info("run_ended", job=job.id, fence=job.fence, exit=code)
    if code == Exit.DONE and said.report is not None:
        _succeed(job, said, workdir)
    elif code == Exit.STOPPED or engine.ended_by_us:
        let_go(job)
    elif code in (Exit.USER_FAULT, Exit.OUT_OF_MEMORY, Exit.NON_FINITE) and said.error:
        error = said.error.model_dump(include={"code", "message", "hint", "items"}, mode="json")
        _fail(job, error | {"retryable": code == Exit.OUT_OF_MEMORY}, Exit(code).name.lower())
    elif code == Exit.NO_SPACE:
        _fail(job, _error("storage_unavailable", _FULL, retryable=True), "no_space")
    elif code < 0:
        _write(job, lambda session, row: jobs.lose(session, row, _killed(-code)))
    else:
        _crashed(job, code, engine.last_words())


def let_go(job: Job) -> None:
    """The run shall not go on, and no engine of it runs."""
    _write(job, lambda session, row: jobs.release(session, row, "stopped"))


def refuse(job: Job, error: dict[str, Any]) -> None:
    """This worker may not do what the job needs, and neither may another one."""
    _fail(job, error, "refused")


def overran(job: Job, seconds: float) -> None:
    """The engine did not end by itself in the time that it was given."""
    message = f"the run was ended after {seconds:.0f} s: it did not stop at its limit by itself"
    _fail(job, _error("deadline_exceeded", message, retryable=True), "overran")


def storage_failed(job: Job, error: Exception) -> None:
    """The run's inputs could not be had."""
    message = f"what the job needs could not be read from the object store: {error}"
    failure = _error("storage_unavailable", message, retryable=True)
    _write(job, lambda session, row: jobs.fail(session, row, failure, "storage_unavailable"))


def disk_full(job: Job, error: Exception) -> None:
    """There is no room for the run in the work folder."""
    log.error("disk_full", job=job.id, error=str(error))
    _fail(job, _error("storage_unavailable", _FULL, retryable=True), "no_space")


def stalled(job: Job, seconds: float) -> None:
    """The engine showed no sign of life for longer than its own pauses allow."""
    message = f"the engine made no progress for {seconds:.0f} s and was ended"
    _write(job, lambda session, row: jobs.lose(session, row, message, "stalled"))


def storage_away(job: Job, error: Exception) -> None:
    """The object store does not serve just now: a later run may do, but not for ever."""
    log.warning("storage_away", job=job.id, error=str(error))
    message = f"the object store was away for {settings().object_waits} runs: {error}"
    failure = _error("storage_unavailable", message, retryable=True)

    def write(session: Session, row: Job) -> None:
        last = select(Run.exit).where(Run.job_id == row.id, Run.exit.is_not(None))
        exits = session.scalars(last.order_by(Run.number.desc()).limit(settings().object_waits))
        found = exits.all()
        if len(found) == settings().object_waits and set(found) == {"storage_away"}:
            jobs.fail(session, row, failure, "storage_away")
        else:
            jobs.release(session, row, "storage_away", settings().storage_pause_s)

    _write(job, write)


def _succeed(job: Job, said: Outcome, workdir: Path) -> None:
    enter(job, "uploading")
    report = said.report or {}
    if job.kind in ("distill", "evaluate"):
        files = _patiently(lambda: artifact_upload.upload_artifacts(job, said.artifacts, workdir))
        failpoint("worker.uploaded")
        _write(job, lambda session, row: jobs.succeed(session, row, report, files))
        return
    if job.kind == "warm":  # what it has made are the rows of its answers
        _write(job, lambda session, row: jobs.succeed(session, row, {}, []))
        return
    if job.kind == "ingest":
        found: dict[str, Any] = {"info": report}
    elif job.kind == "convert":
        found = report
    elif report.get("normalisation") is not None:
        found = _published(job, report)
    else:
        normalisation = _normalisation(job, report["in_channels"])
        if normalisation is None:
            _fail(job, _WRONG_NORMALISATION, "user_fault")
            return
        found = {name: report[name] for name in ("in_channels", "num_params")}
        found["normalisation"] = normalisation
    stored = _patiently(lambda: artifact_upload.upload_asset(job, said.artifacts[0], workdir))
    _write(job, lambda session, row: jobs.succeed(session, row, found | stored, []))


def _published(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """All that published weights say of themselves; the licence only where the user said none."""
    with transaction() as session:
        given = session.get_one(Model, job.model_id).licence
    return report | {"licence": given or report["licence"]}


def _normalisation(job: Job, channels: int) -> dict[str, Any] | None:
    """A model's normalisation for the channels that its weights turned out to have."""
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    given = model.normalisation or {}
    if len(given["mean"]) == channels:
        return given
    # The catalogue is made for colour: a grey network takes the mean of its three channels.
    own = architectures()[model.architecture].normalisation.model_dump(mode="json")
    if given != own or channels != 1:
        return None
    return {name: [statistics.fmean(values)] for name, values in own.items()}


def _fail(job: Job, error: dict[str, Any], run_exit: str) -> None:
    """The recipe or the bytes are at fault; bytes that are bad are deleted, their row is kept."""
    keys: list[str] = []

    def write(session: Session, row: Job) -> None:
        upload = _upload(session, row)
        found = [part.object_key for part in upload.parts] if upload else []
        jobs.fail(session, row, error, run_exit)
        keys[:] = found if upload and upload.state == "discarded" else []

    _write(job, write)
    for key in keys:
        with contextlib.suppress(OSError):  # the keeper deletes what stays
            object_store.delete(key)


def _upload(session: Session, job: Job) -> Upload | None:
    """The upload that an ingestion or verification opens."""
    if job.kind == "ingest":
        upload_id = session.get_one(Dataset, job.dataset_id).upload_id
    elif job.kind == "verify":
        upload_id = session.get_one(Model, job.model_id).upload_id
    else:
        return None
    return session.get(Upload, upload_id) if upload_id else None


def _crashed(job: Job, code: int, last_words: str) -> None:
    """An exception that nobody caught: once more, then it is a failure of ours."""
    message = f"the engine ended with exit code {code}"
    tail = last_words.splitlines()[-1] if last_words else ""
    log.error("engine_crashed", job=job.id, exit=code, stderr=last_words)

    def write(session: Session, row: Job) -> None:
        row.crashes += 1
        event_log.append(session, row, "log", {"level": "error", "message": f"{message}: {tail}"})
        if row.crashes > settings().max_crashes:
            error = _error("internal", f"{message}, twice: {tail}", retryable=False)
            jobs.fail(session, row, error, "crashed")
        else:
            jobs.release(session, row, "crashed")

    _write(job, write)


_WRONG_NORMALISATION = {
    "code": "checkpoint_invalid",
    "message": "normalisation and network differ in the number of channels",
    "hint": "give one mean and one std for each channel that the network takes",
    "retryable": False,
    "items": [{"name": "normalisation", "detail": "has another number of channels"}],
}


def _killed(number: int) -> str:
    return f"the engine was killed by signal {number}"


def _error(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": None, "retryable": retryable, "items": []}


def enter(job: Job, phase: str) -> None:
    """The run has entered a phase that is its worker's, not the engine's."""
    _write(job, lambda session, row: jobs.begin(session, row, phase, None))


def _write(job: Job, change: Any) -> None:
    """One fenced transaction, tried again while the database is away for a moment."""

    def attempt() -> None:
        with transaction() as session:
            change(session, jobs.held(session, job.id, job.fence))

    _patiently(attempt)


def _patiently(action: Any) -> Any:
    end, pause_s = time.monotonic() + AWAY_S, 0.25
    while True:
        try:
            return action()
        except AWAY as error:
            if time.monotonic() > end:
                raise
            log.warning("tried_again", error=str(error))
            time.sleep(pause_s)
            pause_s = min(4.0, 2 * pause_s)
