"""Models: teachers and students alike. Uploaded weights are verified before they can be used."""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api import owned
from api.answers import matches, tagged
from api.auth import DataWriter, Reader
from api.earlier import earlier_student
from api.idempotency import Created, once
from api.paging import PageAsked, page
from api.problems import Conflict, Invalid, Problem
from api.published import published
from api.routes.datasets import UploadingRoute, preparation, require_complete_upload
from api.routes.router import router
from api.schemas.models import ModelChange, ModelCreate, ModelOut, ModelPage
from api.streaming import BYTES, content
from kdcore.spec.catalogue import architectures
from kdcore.spec.faults import Fault
from kdcore.spec.job import channels_of
from store import blobs, jobs
from store.accounts import Principal
from store.database import transaction
from store.ids import new_id
from store.tables import Artifact, Dataset, Job, Model

models = router("/models", "models")
posting = router("/models", "models")
posting.route_class = UploadingRoute


_SHOWN = (
    *("id", "name", "state", "source", "architecture", "num_classes", "in_channels", "input_size"),
    *("normalisation", "class_names", "licence", "labels", "num_params", "size_bytes", "sha256"),
    *("error", "warnings", "created_at", "ready_at"),
)


def show(model: Model) -> dict[str, Any]:
    """A model as answers carry it."""
    own = f"/v1/models/{model.id}"
    return {
        "object": "model",
        **{name: getattr(model, name) for name in _SHOWN},
        "links": {"self": own, "weights": f"{own}/weights"},
    }


@posting.post("", status_code=201, response_model=ModelOut)
def create_model(body: ModelCreate, request: Request, caller: DataWriter) -> Response:
    """Store a model. An earlier job's student is ready at once.

    Uploaded weights are checked first, published ones downloaded; a download that fails is told in
    `error`.
    """
    create = _origin(body.source)
    with transaction() as session:
        return once(session, request, caller.project_id, lambda: create(session, body, caller))


def _origin(source: str | None) -> Callable[[Session, ModelCreate, Principal], Created]:
    if source is None:
        return _from_upload
    return _from_job if source.startswith("job:") else _from_published


def _student(session: Session, job_id: str, caller: Principal) -> tuple[Job, Artifact]:
    job = owned.find(session, Job, job_id, caller, hold="kept")
    if job is None:
        raise _bad_source("not_found", "there is no such job")
    if job.kind == "evaluate":
        raise _bad_source("no_student", "an evaluation trains no student: it has a model already")
    artifact = session.scalars(
        select(Artifact).where(Artifact.job_id == job.id, Artifact.format == "safetensors")
    ).one_or_none()
    if artifact is None:
        raise _bad_source("no_student", f"the job is {job.state} and has no student")
    return job, artifact


def _bad_source(code: str, detail: str) -> Invalid:
    return Invalid([Fault(pointer="/source", code=code, detail=detail)])


def _from_job(session: Session, body: ModelCreate, caller: Principal) -> Created:
    job, artifact = _student(session, (body.source or "").removeprefix("job:"), caller)
    info = session.get_one(Dataset, job.dataset_id).info or {}
    report = job.result or {}
    student = earlier_student(job)
    # The bytes become the model's own: the job may be deleted.
    key = f"{job.project_id}/models/{artifact.sha256}"
    blobs.copy(artifact.object_key, key)
    model = Model(
        id=new_id("mdl"),
        project_id=job.project_id,
        name=body.name,
        source=body.source or "",
        architecture=student.network,
        num_classes=len(info["classes"]),
        in_channels=channels_of(student.channels, info["in_channels"]),
        input_size=info["image_size"],
        normalisation=report["normalisation"],
        class_names=info["classes"],
        licence=body.licence,
        labels={},
        warnings=[],
        state="ready",
        num_params=report["student"]["num_params"],
        object_key=key,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        ready_at=artifact.created_at,
    )
    return _stored(session, model)


def _from_published(session: Session, body: ModelCreate, caller: Principal) -> Created:
    entry, source = published(body.source or "")
    # What the weights say of themselves takes the place of all this when they are here.
    model = Model(
        id=new_id("mdl"),
        project_id=caller.project_id,
        name=body.name,
        source=source,
        architecture=entry.name,
        num_classes=entry.num_classes,
        input_size=entry.input_size,
        normalisation=entry.normalisation.model_dump(mode="json"),
        licence=body.licence,
        labels={},
        warnings=[],
        state="verifying",
    )
    return _verified(session, model, caller)


def _verified(session: Session, model: Model, caller: Principal) -> Created:
    """Store a model whose weights a worker must see first."""
    session.add(model)
    session.flush()
    jobs.create(session, preparation("verify", model.name, caller, model_id=model.id))
    return _stored(session, model)


def _from_upload(session: Session, body: ModelCreate, caller: Principal) -> Created:
    require_complete_upload(session, body.upload_id, caller)
    entry = architectures()[body.architecture or ""]
    warnings = [
        f"no {name} given: the architecture's own is taken; a wrong one ruins a teacher"
        for name in ("normalisation", "input_size")
        if getattr(body, name) is None
    ]
    model = Model(
        id=new_id("mdl"),
        project_id=caller.project_id,
        name=body.name,
        source=f"upload:{body.upload_id}",
        upload_id=body.upload_id,
        architecture=entry.name,
        num_classes=body.num_classes or 0,
        input_size=body.input_size or entry.input_size,
        normalisation=(body.normalisation or entry.normalisation).model_dump(mode="json"),
        class_names=list(body.class_names) if body.class_names else None,
        licence=body.licence,
        labels={},
        warnings=warnings,
        state="verifying",
    )
    return _verified(session, model, caller)


def _stored(session: Session, model: Model) -> Created:
    session.add(model)
    session.flush()
    session.refresh(model)
    return Created(show(model), f"/v1/models/{model.id}")


@models.get("", response_model=ModelPage)
def list_models(caller: Reader, asked: PageAsked) -> Response:
    """Models, the newest first."""
    with transaction() as session:
        query = select(Model).where(Model.project_id == caller.project_id)
        return page(session, query, show, asked)


@models.get("/{model_id}", response_model=ModelOut)
def get_model(model_id: str, request: Request, caller: Reader) -> Response:
    """One model: its state, what it is, or what is wrong with its checkpoint."""
    with transaction() as session:
        model = owned.get(session, Model, model_id, caller)
        return tagged(request, show(model), str(model.rev))


@models.patch("/{model_id}", response_model=ModelOut)
def change_model(
    model_id: str, body: ModelChange, request: Request, caller: DataWriter
) -> Response:
    """Change name, licence or labels; with ``If-Match``, only the version that you have seen."""
    with transaction() as session:
        model = owned.get(session, Model, model_id, caller, lock=True)
        if not matches(request, model.rev):
            raise Problem(412, "precondition_failed", "the model has changed; get it again")
        for name in body.model_fields_set:
            if name != "licence" and getattr(body, name) is None:
                continue
            setattr(model, name, getattr(body, name))
        model.rev += 1
        session.flush()
        return tagged(request, show(model), str(model.rev))


@models.delete("/{model_id}", status_code=204, response_class=Response)
def delete_model(model_id: str, caller: DataWriter) -> Response:
    """Delete a model that no unfinished job uses."""
    with transaction() as session:
        model = owned.get(session, Model, model_id, caller, lock=True)
        user = session.scalar(
            select(Job.id)
            .where(Job.model_ids.contains([model.id]), Job.state.not_in(jobs.TERMINAL))
            .limit(1)
        )
        if user is not None or model.state == "verifying":
            detail = f"{user} uses it" if user else "it is being verified"
            raise Conflict("in_use", detail, current_state=model.state)
        session.delete(model)
    return Response(status_code=204)


@models.get("/{model_id}/weights", response_class=Response, responses=BYTES)
def get_weights(model_id: str, request: Request, caller: Reader) -> Response:
    """The weights as safetensors."""
    with transaction() as session:
        model = owned.get(session, Model, model_id, caller)
    if model.object_key is None or model.sha256 is None or model.size_bytes is None:
        detail = f"a model that is {model.state} has no weights"
        raise Conflict("not_ready", detail, current_state=model.state)
    return content(
        request, model.object_key, model.size_bytes, model.sha256, f"{model.id}.safetensors"
    )
