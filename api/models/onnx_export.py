"""The ONNX file of a model, which a worker exports before the model's first prediction."""

import time
from typing import NamedTuple

import anyio
import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.service import preparation_job
from api.http import scoping
from api.http.problems import ConflictError, ProblemError
from kdcore.schema.catalog import Normalization
from kdcore.schema.job_kinds import PREPARING_KINDS
from store import jobs
from store.access.credentials import Principal
from store.database import read_session, transaction
from store.settings import settings
from store.tables import Job, Model

_POLL_S = 0.5
_RETRY_AFTER_S = 2
_URGENT_PRIORITY = 1
"""Above ingestions and verifications, because a request is waiting."""


class ServableModel(NamedTuple):
    """The columns of a model that a prediction needs."""

    object_key: str
    sha256: str
    size_bytes: int
    input_size: int
    normalization: Normalization
    sixteen_bit_range: int | None
    class_names: list[str] | None


async def require_servable(model_id: str, caller: Principal) -> None:
    """Reject a prediction before its body is read.

    Raises:
        NotFoundError: the project has no such model.
        ConflictError: the model is not ready, or cannot be exported to ONNX.
    """
    await anyio.to_thread.run_sync(_load_if_converted, model_id, caller)


async def load_servable(model_id: str, caller: Principal) -> ServableModel:
    """The model with its ONNX file; the first time, wait until a worker has exported it.

    The wait holds neither a thread nor a database connection.

    Raises:
        ProblemError: 503 if the export takes longer than ``predict_prepare_timeout_s``.
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
            "a worker is exporting the model for its first prediction; retry after Retry-After",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
    return model


def _load_if_converted(model_id: str, caller: Principal) -> ServableModel | None:
    with read_session() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
    if model.state != "ready":
        detail = f"the model is not ready (state: {model.state})"
        raise ConflictError("not_ready", detail, current_state=model.state)
    if model.onnx_error is not None:
        raise ConflictError("no_onnx", str(model.onnx_error["message"]), current_state=model.state)
    if model.onnx_object_key is None:
        return None
    return ServableModel(
        object_key=model.onnx_object_key,
        sha256=model.onnx_sha256 or "",
        size_bytes=model.onnx_size_bytes or 0,
        input_size=model.input_size or 0,
        normalization=Normalization.model_validate(model.normalization),
        sixteen_bit_range=model.sixteen_bit_range,
        class_names=model.class_names,
    )


def _request_conversion(model_id: str, caller: Principal) -> None:
    """Create the export job, unless there is one; the lock makes concurrent requests create one."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
        if model.onnx_object_key is None and not _is_converting(session, model):
            job = preparation_job("onnx", model.name, caller, model_id=model.id)
            job.priority = _URGENT_PRIORITY
            jobs.create(session, job)


def _is_converting(session: Session, model: Model) -> bool:
    query = select(Job.id).where(
        Job.model_id == model.id,
        Job.kind == PREPARING_KINDS["onnx"],
        Job.state.not_in(jobs.TERMINAL_STATES),
    )
    return session.scalar(query.limit(1)) is not None
