"""Health, readiness and Prometheus metrics. These routes require no API key."""

from typing import Any

import structlog
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.responses import json_response
from api.http.routing import StrictQueryRoute
from store import object_store
from store.database import transaction
from store.jobs import queue_position

log = structlog.get_logger()
router = APIRouter(tags=["health"], route_class=StrictQueryRoute)


class Health(BaseModel):
    """The process responds."""

    status: str


class Readiness(BaseModel):
    """Whether the API can accept jobs.

    The number of workers and their disk space do not matter: jobs wait for both.
    `checks.worker_disk_space` is `ok`, or it says how much must be freed before jobs run.
    """

    status: str
    checks: dict[str, Any]


@router.get("/healthz", response_model=Health)
async def get_health() -> Response:
    """Report that this process is alive, without checking anything else."""
    return json_response({"status": "ok"})


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def get_readiness() -> Response:
    """Check whether the database and the object store respond."""
    checks: dict[str, Any] = {"database": "ok", "object_store": "ok"}
    try:
        with transaction() as session:
            session.execute(text("SELECT 1 FROM projects LIMIT 1"))
            checks |= _worker_checks(session)
    except SQLAlchemyError as error:
        log.warning("database_unavailable", error=str(error))
        checks["database"] = "unavailable"
    try:
        object_store.check_available()
    except Exception as error:  # noqa: BLE001 - a wrong setting must not fail /readyz itself
        log.warning("object_store_unavailable", error=str(error))
        checks["object_store"] = "unavailable"
    ready = checks["database"] == checks["object_store"] == "ok"
    body = {"status": "ready" if ready else "not_ready", "checks": checks}
    return json_response(body, 200 if ready else 503, {} if ready else {"Retry-After": "2"})


def _worker_checks(session: Session) -> dict[str, Any]:
    """How many workers each queue has, and whether one of them has disk space for a job."""
    train = queue_position.live_workers(session, "train")
    prepare = queue_position.live_workers(session, "prepare")
    missing = max(train.missing_disk_bytes, prepare.missing_disk_bytes)
    return {
        "train_workers": train.num_workers,
        "prepare_workers": prepare.num_workers,
        "worker_disk_space": queue_position.no_disk_space(missing) if missing else "ok",
    }


@router.get("/metrics", response_class=Response)
def get_process_metrics() -> Response:
    """Get the metrics of this process in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
