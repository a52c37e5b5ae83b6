"""A model's ONNX file: there, or made by a worker when it is first wanted."""

import time
from typing import NamedTuple

import anyio
import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.routes import preparation
from api.http import scoping
from api.http.problems import Conflict, Problem
from kdcore.schema.catalog import Normalisation
from store import jobs
from store.access.credentials import Principal
from store.database import reading, transaction
from store.settings import settings
from store.tables import Job, Model

_POLL_S = 0.5
_RETRY_AFTER_S = 2
_URGENT = 1
"""Before ingestions and verifications: somebody waits for the answer."""


class Served(NamedTuple):
    """What a prediction needs of a model."""

    object_key: str
    sha256: str
    size_bytes: int
    input_size: int
    normalisation: Normalisation
    class_names: list[str] | None


async def require(model_id: str, caller: Principal) -> None:
    """The problem of a model that is not there or cannot be asked, before anything is read."""
    await anyio.to_thread.run_sync(_look, model_id, caller)


async def served(model_id: str, caller: Principal) -> Served:
    """The model as it can be asked. The first time, a worker is waited for: a 503 if too long.

    While it waits it holds neither a thread nor a connection.
    """
    end = time.monotonic() + settings().predict_wait_s
    found = await anyio.to_thread.run_sync(_look, model_id, caller)
    if found is None:
        await anyio.to_thread.run_sync(_want, model_id, caller)
    while found is None and time.monotonic() < end:
        await anyio.sleep(_POLL_S)
        found = await anyio.to_thread.run_sync(_look, model_id, caller)
    if found is None:
        raise Problem(
            503,
            "preparing",
            "the model is made ready for its first prediction; try again in a moment",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
    return found


def _look(model_id: str, caller: Principal) -> Served | None:
    with reading() as session:
        model = scoping.get(session, Model, model_id, caller)
    if model.state != "ready":
        detail = f"a model that is {model.state} cannot be asked anything"
        raise Conflict("not_ready", detail, current_state=model.state)
    if model.onnx_error is not None:
        raise Conflict("no_onnx", str(model.onnx_error["message"]), current_state=model.state)
    if model.onnx_object_key is None:
        return None
    return Served(
        object_key=model.onnx_object_key,
        sha256=model.onnx_sha256 or "",
        size_bytes=model.onnx_size_bytes or 0,
        input_size=model.input_size,
        normalisation=Normalisation.model_validate(model.normalisation),
        class_names=model.class_names,
    )


def _want(model_id: str, caller: Principal) -> None:
    """Have the model converted, unless that is done or on its way: its row is locked to see."""
    with transaction() as session:
        model = scoping.get(session, Model, model_id, caller, lock=True)
        if model.onnx_object_key is None and not _converting(session, model):
            job = preparation("convert", model.name, caller, model_id=model.id)
            job.priority = _URGENT
            jobs.create(session, job)


def _converting(session: Session, model: Model) -> bool:
    query = select(Job.id).where(
        Job.model_id == model.id, Job.kind == "convert", Job.state.not_in(jobs.TERMINAL)
    )
    return session.scalar(query.limit(1)) is not None
