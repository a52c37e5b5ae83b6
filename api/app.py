"""The application: routes, errors, and what runs beside the requests."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api import problems
from api.deadline import Deadline
from api.hub import Hub
from api.middleware import Frame
from api.routes import dashboard
from api.routes.catalogue import methods, networks, schemes
from api.routes.compare import compare
from api.routes.datasets import datasets
from api.routes.datasets import posting as dataset_posting
from api.routes.events import events
from api.routes.fleet import usage, workers
from api.routes.frontier import frontier
from api.routes.health import health
from api.routes.jobs import jobs, posting
from api.routes.keys import keys
from api.routes.models import models
from api.routes.models import posting as model_posting
from api.routes.outcome import artifacts, checkpoints, outcome
from api.routes.pictures import pictures
from api.routes.projects import projects
from api.routes.teacher_caches import teacher_caches, warming
from api.routes.uploads import uploads
from api.routes.wishes import wishes

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
