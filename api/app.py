"""The FastAPI application: resources, error handlers and middleware."""

import contextlib
import importlib
from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from api.http import problems
from api.http.middleware import HeadMiddleware, RequestContextMiddleware, TimeoutMiddleware
from api.http.notifications import Broadcaster

RESOURCES = (
    "admin.health",
    "catalog.routes",
    "uploads.routes",
    "datasets.routes",
    "datasets.images",
    "models.routes",
    "predictions.routes",
    "jobs.routes",
    "jobs.actions",
    "jobs.events",
    "jobs.results",
    "teacher_caches.routes",
    "analysis.compare",
    "analysis.frontier",
    "admin.projects",
    "admin.api_keys",
    "admin.workers",
    "admin.usage",
    "admin.dashboard",
)
"""Modules of this package with a ``router``, in the order of the OpenAPI document."""
DESCRIPTION = """Knowledge distillation as a service: post a teacher, a student and a method; get
back a small network that is tested, explained and ready to deploy.

Every error is a problem document (RFC 9457). Every creating POST accepts an `Idempotency-Key`.
Unknown query parameters are refused, as unknown fields of a body are. HEAD works wherever GET does.
Every list is `{"data": […], "next_cursor": …}`. Top-1, agreement and calibration error are in
percent.
"""


def create_app() -> FastAPI:
    """A new application. It connects to nothing before its first request."""
    broadcaster = Broadcaster()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with broadcaster.running():
            yield

    app = FastAPI(
        title="Stillhouse",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.broadcaster = broadcaster
    problems.install_handlers(app)
    for router in _load_routers():
        app.include_router(router)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(TimeoutMiddleware)
    # Outermost, so that a response of the timeout also has a request id and is logged.
    app.add_middleware(RequestContextMiddleware)
    return app


def _operation_id(route: APIRoute) -> str:
    """The name of the endpoint, such as ``list_jobs``; a test compares them all."""
    return route.name


def _load_routers() -> Iterator[APIRouter]:
    """The router of every resource, imported by name so that a new resource takes one line."""
    for name in RESOURCES:
        yield importlib.import_module(f"api.{name}").router
