"""The heartbeat of a worker: a row that the API reads, renewed while the worker is idle, too."""

import threading

import structlog
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from store.database import transaction
from store.settings import settings
from store.tables import Worker
from worker.files import asset_cache
from worker.shutdown import worker_shutdown

log = structlog.get_logger()


def start_heartbeat(name: str, queue: str) -> None:
    """Renew the worker's row from a thread until the worker shuts down."""
    threading.Thread(
        target=_heartbeat_loop, args=(name, queue), daemon=True, name="heartbeat"
    ).start()


def _heartbeat_loop(name: str, queue: str) -> None:
    pause = threading.Event()
    started = False
    while not worker_shutdown.is_requested():
        try:
            _write_heartbeat(name, queue, starting=not started)
            started = True
        except (SQLAlchemyError, OSError) as error:
            log.warning("heartbeat_not_written", worker=name, error=str(error))
        pause.wait(settings().heartbeat_s)


def _write_heartbeat(name: str, queue: str, *, starting: bool) -> None:
    now = func.clock_timestamp()
    state = {"queue": queue, "seen_at": now, "missing_disk_bytes": asset_cache.missing_bytes()}
    row = insert(Worker).values(name=name, started_at=now, **state)
    # The row outlives the process: the next process of this name sets a new start.
    changed = state | ({"started_at": now} if starting else {})
    with transaction() as session:
        session.execute(row.on_conflict_do_update(index_elements=["name"], set_=changed))
