"""One run: fetch, start the engine, ship what it says, end the job by how it ended."""

import math
import shutil
import time
from pathlib import Path

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store import events, jobs
from store.blobs import CorruptBlobError
from store.database import transaction
from store.settings import settings
from store.tables import Job
from worker import drain, outcome, published, requests, ship
from worker.engine import Engine
from worker.lease import Lease

log = structlog.get_logger()
LIMIT_GRACE_S = 120.0  # evaluation and export follow what the engine's own limit ends
# What passes by itself. Anything else that the database says of a batch it would say for ever.
AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)


def run(job: Job) -> None:
    """Bring a claimed job as far as it goes. Never raises for what a run may meet."""
    workdir = settings().work_dir / "runs" / f"{job.id}-{job.fence}"
    workdir.mkdir(parents=True)
    log.info("run_started", job=job.id, fence=job.fence, kind=job.kind)
    try:
        with Lease(job.id, job.fence) as lease:
            _run(job, workdir, lease)
    except jobs.FencedOut:
        log.warning("run_fenced_out", job=job.id, fence=job.fence)
    except (SQLAlchemyError, OSError) as error:
        # Database, store or disk stayed away. The lease ends by itself, and the keeper queues the
        # job again.
        log.warning("run_abandoned", job=job.id, fence=job.fence, error=str(error))
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def _run(job: Job, workdir: Path, lease: Lease) -> None:
    with transaction() as session:
        jobs.begin(session, jobs.held(session, job.id, job.fence), "fetching", None)
    try:
        request, damaged = requests.prepare(job, workdir)
    except (CorruptBlobError, FileNotFoundError) as error:
        outcome.storage_failed(job, error)
        return
    except OSError as error:
        outcome.storage_away(job, error)
        return
    if published.needed(request) and not settings().downloads:
        outcome.refuse(job, published.REFUSED)
        return
    if damaged:
        with transaction() as session:
            row = jobs.held(session, job.id, job.fence)
            for sentence in damaged:
                events.append(session, row, "log", {"level": "warning", "message": sentence})
    engine = Engine(requests.COMMANDS[job.kind], request, workdir)
    allowed_s = _allowed_s(job)
    try:
        said = _follow(job, engine, workdir, lease, time.monotonic() + allowed_s)
    except TimeoutError:
        engine.kill()
        outcome.overran(job, allowed_s)
        return
    finally:
        engine.kill()
    outcome.settle(job, engine, said, workdir)


def _allowed_s(job: Job) -> float:
    """When a run that is still there must be hung; the engine keeps a job's limits by itself."""
    if job.lane == "prepare":
        return settings().prepare_wall_s
    limits = [limit for limit in job.resolved.get("limits", {}).values() if limit is not None]
    return min(limits) - job.device_s + LIMIT_GRACE_S if limits else math.inf


def _follow(job: Job, engine: Engine, workdir: Path, lease: Lease, deadline: float) -> ship.Outcome:
    """Ship the engine's events until it has ended and all are stored; TimeoutError if too late."""
    said = ship.Outcome()
    while True:
        ended = engine.process.poll() is not None
        if lease.lost:
            raise jobs.FencedOut(job.id)
        if time.monotonic() > deadline and not ended:
            raise TimeoutError
        if lease.wanted != "run" or drain.begun():
            engine.ask_to_stop()
        if _ship(job, engine, workdir, said) and ended:
            return said
        if not ended:
            time.sleep(settings().poll_s)


def _ship(job: Job, engine: Engine, workdir: Path, said: ship.Outcome) -> bool:
    """Store what is new; False if the database was away, to be tried again."""
    batch, offset = engine.new_events()
    if not batch:
        return True
    try:
        ship.ship(job, batch, workdir)
    except AWAY as error:
        # Database or object store away: the engine goes on, and what it says is kept in its file.
        log.warning("events_not_stored", job=job.id, error=str(error))
        time.sleep(settings().poll_s)
        return False
    engine.accept(offset)
    for event in batch:
        said.note(event)
    return True
