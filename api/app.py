"""The application: routes, errors, and what runs beside the requests."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api.admin import dashboard
from api.admin.api_keys import api_keys_router
from api.admin.health import health_router
from api.admin.projects import projects_router
from api.admin.workers import usage_router, workers_router
from api.analysis.compare import compare_router
from api.analysis.frontier import frontier_router
from api.catalog.routes import architectures_router, methods_router, schemes_router
from api.datasets.images import images_router
from api.datasets.routes import dataset_creation_router as dataset_creation_router
from api.datasets.routes import datasets_router
from api.http import problems
from api.http.middleware import RequestContextMiddleware
from api.http.notifications import Broadcaster
from api.http.timeout import TimeoutMiddleware
from api.jobs.actions import actions_router
from api.jobs.events import events_router
from api.jobs.results import artifacts_router, checkpoints_router, results_router
from api.jobs.routes import job_creation_router, jobs_router
from api.models.routes import model_creation_router as model_creation_router
from api.models.routes import models_router
from api.teacher_caches.routes import cache_warming_router, teacher_caches_router
from api.uploads.routes import uploads_router

DESCRIPTION = """Knowledge distillation as a service: post a teacher, a student and a method; get
back a small network that is tested, explained and ready to deploy.

Every error is a problem document (RFC 9457). Every creating POST takes an `Idempotency-Key`. Every
list is `{"data": […], "next_cursor": …}`. Shares (top-1, agreement, calibration error) are in
percent.
"""


def create_app() -> FastAPI:
    """A new application; it connects to nothing before its first request."""
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
    )
    app.state.broadcaster = broadcaster
    problems.install_handlers(app)
    for router in (
        health_router,
        methods_router,
        schemes_router,
        architectures_router,
        uploads_router,
        dataset_creation_router,
        datasets_router,
    ):
        app.include_router(router)
    for router in (
        model_creation_router,
        models_router,
        job_creation_router,
        jobs_router,
        events_router,
        results_router,
        artifacts_router,
        projects_router,
    ):
        app.include_router(router)
    for router in (
        checkpoints_router,
        images_router,
        compare_router,
        frontier_router,
        api_keys_router,
        workers_router,
        usage_router,
        actions_router,
    ):
        app.include_router(router)
    for router in (cache_warming_router, teacher_caches_router):
        app.include_router(router)
    dashboard.install_dashboard(app)
    app.add_middleware(TimeoutMiddleware)
    app.add_middleware(
        RequestContextMiddleware
    )  # outermost: also what was cut short has an id and is counted
    return app
