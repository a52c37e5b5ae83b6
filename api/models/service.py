"""A new model, by where it comes from: an upload, an earlier job's student, published weights."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.routes import preparation_job, require_complete_upload
from api.http import scoping
from api.http.problems import InvalidRequestError
from api.jobs.continuation import trained_student
from api.models.pretrained_names import resolve_pretrained
from api.models.schemas import ModelCreate
from kdcore.schema.catalog import architectures
from kdcore.schema.exports import EXPORTS
from kdcore.schema.job import network_channels
from kdcore.schema.validation.errors import ValidationIssue
from store import jobs, object_store
from store.access.credentials import Principal
from store.ids import new_id
from store.tables import Artifact, Dataset, Job, Model

_ONNX = EXPORTS["onnx"].file_name()


def model_factory(source: str | None) -> Callable[[Session, ModelCreate, Principal], Model]:
    """What makes and stores a model of this source."""
    if source is None:
        return _from_upload
    return _from_job if source.startswith("job:") else _from_pretrained


def _student_artifact(session: Session, job_id: str, caller: Principal) -> tuple[Job, Artifact]:
    job = scoping.get_or_none(session, Job, job_id, caller, lock="share")
    if job is None:
        raise _bad_source("not_found", "there is no such job")
    if job.kind != "distill":
        raise _bad_source("no_student", "this job trains no student: it measures, or only asks")
    artifact = session.scalars(
        select(Artifact).where(Artifact.job_id == job.id, Artifact.format == "safetensors")
    ).one_or_none()
    if artifact is None:
        raise _bad_source("no_student", f"the job is {job.state} and has no student")
    return job, artifact


def _bad_source(code: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError([ValidationIssue(pointer="/source", code=code, detail=detail)])


def _from_job(session: Session, body: ModelCreate, caller: Principal) -> Model:
    job, artifact = _student_artifact(session, (body.source or "").removeprefix("job:"), caller)
    info = session.get_one(Dataset, job.dataset_id).info or {}
    report = job.result or {}
    student = trained_student(job)
    key = _copy_artifact(artifact)
    onnx = session.scalars(
        select(Artifact).where(Artifact.job_id == job.id, Artifact.name == _ONNX)
    ).one_or_none()
    model = Model(
        id=new_id("mdl"),
        project_id=job.project_id,
        name=body.name,
        source=body.source or "",
        architecture=student.network,
        num_classes=len(info["classes"]),
        in_channels=network_channels(student.channels, info["in_channels"]),
        input_size=info["image_size"],
        normalization=report["normalization"],
        class_names=info["classes"],
        license=body.license,
        labels={},
        warnings=[],
        state="ready",
        num_params=report["student"]["num_params"],
        object_key=key,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        ready_at=artifact.created_at,
    )
    if onnx is not None:
        model.onnx_object_key = _copy_artifact(onnx)
        model.onnx_sha256, model.onnx_size_bytes = onnx.sha256, onnx.size_bytes
    session.add(model)
    return model


def _copy_artifact(artifact: Artifact) -> str:
    """The bytes become the model's own: the job may be deleted. Returns their key."""
    key = f"{artifact.project_id}/models/{artifact.sha256}"
    object_store.copy(artifact.object_key, key)
    return key


def _from_pretrained(session: Session, body: ModelCreate, caller: Principal) -> Model:
    entry, source = resolve_pretrained(body.source or "")
    # What the weights say of themselves takes the place of all this when they are here.
    model = Model(
        id=new_id("mdl"),
        project_id=caller.project_id,
        name=body.name,
        source=source,
        architecture=entry.name,
        num_classes=entry.num_classes,
        input_size=entry.input_size,
        normalization=entry.normalization.model_dump(mode="json"),
        license=body.license,
        labels={},
        warnings=[],
        state="verifying",
    )
    return _store_unverified(session, model, caller)


def _store_unverified(session: Session, model: Model, caller: Principal) -> Model:
    """Store a model whose weights a worker must see first."""
    session.add(model)
    session.flush()
    jobs.create(session, preparation_job("verify", model.name, caller, model_id=model.id))
    return model


def _from_upload(session: Session, body: ModelCreate, caller: Principal) -> Model:
    require_complete_upload(session, body.upload_id, caller)
    entry = architectures()[body.architecture or ""]
    warnings = [
        f"no {name} given: the architecture's own is taken; a wrong one ruins a teacher"
        for name in ("normalization", "input_size")
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
        normalization=(body.normalization or entry.normalization).model_dump(mode="json"),
        class_names=list(body.class_names) if body.class_names else None,
        license=body.license,
        labels={},
        warnings=warnings,
        state="verifying",
    )
    return _store_unverified(session, model, caller)
