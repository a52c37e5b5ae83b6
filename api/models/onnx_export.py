"""A model's ONNX file: there, or made by a worker when it is first wanted."""

import time
from typing import NamedTuple

import anyio
import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.routes import preparation_job
from api.http import scoping
from api.http.problems import ConflictError, ProblemError
from kdcore.schema.catalog import Normalization
from store import jobs
from store.access.credentials import Principal
from store.database import read_session, transaction
from store.settings import settings
from store.tables import Job, Model

_POLL_S = 0.5
_RETRY_AFTER_S = 2
_URGENT_PRIORITY = 1
"""Before ingestions and verifications: somebody waits for the answer."""


class ServableModel(NamedTuple):
    """What a prediction needs of a model."""

    object_key: str
    sha256: str
    size_bytes: int
    input_size: int
    normalization: Normalization
    class_names: list[str] | None


async def require_servable(model_id: str, caller: Principal) -> None:
    """The problem of a model that is not there or cannot be asked, before anything is read."""
    await anyio.to_thread.run_sync(_load_if_converted, model_id, caller)


async def load_servable(model_id: str, caller: Principal) -> ServableModel:
    """The model as it can be asked. The first time, a worker is waited for: a 503 if too long.

    While it waits it holds neither a thread nor a connection.
    """
    end = time.monotonic() + settings().predict_prepare_timeout_s
    model = await anyio.to_thread.run_sync(_load_if_converted, model_id, caller)
    if model is None:
        await anyio.to_thread.run_sync(_request_conversion, model_id, caller)
    while model is None and time.monotonic() < end:
        await anyio.sleep(_POLL_S)
        model = await anyio.to_thread.run_sync(_load_if_converted, model_id, caller)
    if model is None:
        raise ProblemError(
            503,
            "preparing",
            "the model is made ready for its first prediction; try again in a moment",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
    return model


def _load_if_converted(model_id: str, caller: Principal) -> ServableModel | None:
    with read_session() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
    if model.state != "ready":
        detail = f"a model that is {model.state} cannot be asked anything"
        raise ConflictError("not_ready", detail, current_state=model.state)
    if model.onnx_error is not None:
        raise ConflictError("no_onnx", str(model.onnx_error["message"]), current_state=model.state)
    if model.onnx_object_key is None:
        return None
    return ServableModel(
        object_key=model.onnx_object_key,
        sha256=model.onnx_sha256 or "",
        size_bytes=model.onnx_size_bytes or 0,
        input_size=model.input_size,
        normalization=Normalization.model_validate(model.normalization),
        class_names=model.class_names,
    )


def _request_conversion(model_id: str, caller: Principal) -> None:
    """Have the model converted, unless that is done or on its way: its row is locked to see."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
        if model.onnx_object_key is None and not _is_converting(session, model):
            job = preparation_job("convert", model.name, caller, model_id=model.id)
            job.priority = _URGENT_PRIORITY
            jobs.create(session, job)


def _is_converting(session: Session, model: Model) -> bool:
    query = select(Job.id).where(
        Job.model_id == model.id, Job.kind == "convert", Job.state.not_in(jobs.TERMINAL_STATES)
    )
    return session.scalar(query.limit(1)) is not None
