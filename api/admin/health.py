"""Health, readiness and metrics: none of these needs a key."""

from typing import Any

import structlog
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api.http.responses import json_response
from store import object_store, outbox
from store.database import transaction

log = structlog.get_logger()
health_router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: str


class Readiness(BaseModel):
    """Whether jobs can be accepted. Workers are told, but a job waits for one if there is none."""

    status: str
    checks: dict[str, Any]


@health_router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """This process is alive; nothing else is asked."""
    return json_response({"status": "ok"})


@health_router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def readyz() -> Response:
    """Database and object store answer, so that requests can be served."""
    checks: dict[str, Any] = {"database": "ok", "object_store": "ok"}
    try:
        with transaction() as session:
            session.execute(text("SELECT 1 FROM projects LIMIT 1"))
            checks["train_workers"] = outbox.count_live_workers(session, "train")
            checks["prepare_workers"] = outbox.count_live_workers(session, "prepare")
    except SQLAlchemyError as error:
        log.warning("not_ready", part="database", error=str(error))
        checks["database"] = "unavailable"
    try:
        object_store.check_available()
    except Exception as error:  # noqa: BLE001 - each store has its own errors; all mean "unavailable"
        log.warning("not_ready", part="object_store", error=str(error))
        checks["object_store"] = "unavailable"
    ready = checks["database"] == checks["object_store"] == "ok"
    body = {"status": "ready" if ready else "not_ready", "checks": checks}
    return json_response(body, 200 if ready else 503, {} if ready else {"Retry-After": "2"})


@health_router.get("/metrics", response_class=Response)
def metrics() -> Response:
    """Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
