"""The application: routes, errors, and what runs beside the requests."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api.admin import dashboard
from api.admin.api_keys import keys
from api.admin.health import health
from api.admin.projects import projects
from api.admin.workers import usage, workers
from api.analysis.compare import compare
from api.analysis.frontier import frontier
from api.catalog.routes import methods, networks, schemes
from api.datasets.images import pictures
from api.datasets.routes import datasets
from api.datasets.routes import posting as dataset_posting
from api.http import problems
from api.http.middleware import Frame
from api.http.notifications import Hub
from api.http.timeout import Deadline
from api.jobs.actions import wishes
from api.jobs.events import events
from api.jobs.results import artifacts, checkpoints, outcome
from api.jobs.routes import jobs, posting
from api.models.routes import models
from api.models.routes import posting as model_posting
from api.teacher_caches.routes import teacher_caches, warming
from api.uploads.routes import uploads

DESCRIPTION = """Knowledge distillation as a service: post a teacher, a student and a method; get
back a small network that is tested, explained and ready to deploy.

Every error is a problem document (RFC 9457). Every creating POST takes an `Idempotency-Key`. Every
list is `{"data": […], "next_cursor": …}`. Shares (top-1, agreement, calibration error) are in
percent.
"""


def create_app() -> FastAPI:
    """A new application; it connects to nothing before its first request."""
    hub = Hub()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with hub.running():
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
    app.state.hub = hub
    problems.install(app)
    for each in (health, methods, schemes, networks, uploads, dataset_posting, datasets):
        app.include_router(each)
    for each in (model_posting, models, posting, jobs, events, outcome, artifacts, projects):
        app.include_router(each)
    for each in (checkpoints, pictures, compare, frontier, keys, workers, usage, wishes):
        app.include_router(each)
    for each in (warming, teacher_caches):
        app.include_router(each)
    dashboard.install(app)
    app.add_middleware(Deadline)
    app.add_middleware(Frame)  # outermost: also what was cut short has an id and is counted
    return app
