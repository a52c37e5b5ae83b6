"""Create models from uploads, students of earlier jobs or pretrained weights; delete models."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.service import preparation_job
from api.http import scoping
from api.http.idempotency import CreatedResource
from api.http.problems import ConflictError, InvalidRequestError
from api.jobs.continuation import trained_student
from api.models.pretrained_names import resolve_pretrained
from api.models.schemas import ModelCreate
from api.models.serializers import serialize_model
from api.uploads.service import require_complete_upload
from kdcore.schema.catalog import PROGRAM_FORMATS, architectures
from kdcore.schema.exports import EXPORTS
from kdcore.schema.job import network_channels
from kdcore.schema.job_kinds import JOB_KINDS
from store import jobs, object_store
from store.access.credentials import Principal
from store.ids import new_id
from store.tables import Artifact, Dataset, Job, Model

_ONNX = EXPORTS["onnx"].file_name()


def create_model_row(session: Session, body: ModelCreate, caller: Principal) -> CreatedResource:
    """Store a model, and the job that verifies its weights unless they are a student's.

    Raises:
        InvalidRequestError: the upload is not complete, or the job has no student.
    """
    if body.source is None:
        create = _from_upload
    else:
        create = _from_job if body.source.startswith("job:") else _from_pretrained
    model = create(session, body, caller)
    session.flush()
    session.refresh(model)
    return CreatedResource(serialize_model(model), f"/v1/models/{model.id}")


def delete_model_row(session: Session, model_id: str, caller: Principal) -> None:
    """Delete a model.

    Raises:
        NotFoundError: the project has no such model.
        ConflictError: the model is being verified, or an unfinished job uses it.
    """
    scoping.get_or_404(session, Model, model_id, caller)
    # A worker that finishes the model's verification locks the job first, then the model.
    session.execute(select(Job.id).where(Job.model_id == model_id).with_for_update())
    model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
    if model.state == "verifying":
        detail = "the model is being verified; delete it when it is ready or failed"
        raise ConflictError("in_use", detail, current_state=model.state)
    dependent_id = session.scalar(
        select(Job.id)
        .where(Job.model_ids.contains([model.id]), Job.state.not_in(jobs.TERMINAL_STATES))
        .limit(1)
    )
    if dependent_id is not None:
        detail = f"{dependent_id} uses the model; cancel it, or wait until it has ended"
        raise ConflictError("in_use", detail, current_state=model.state)
    session.delete(model)


def _student_artifact(session: Session, job_id: str, caller: Principal) -> tuple[Job, Artifact]:
    job = scoping.get_or_none(session, Job, job_id, caller, lock="share")
    if job is None:
        raise _invalid_source("not_found", "the project has no such job")
    if not JOB_KINDS[job.kind].trains:
        raise _invalid_source("no_student", f"a job of the kind {job.kind} trains no student")
    artifact = session.scalars(
        select(Artifact).where(Artifact.job_id == job.id, Artifact.format == "safetensors")
    ).one_or_none()
    if artifact is None:
        raise _invalid_source("no_student", f"the job has no student (state: {job.state})")
    return job, artifact


def _invalid_source(code: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError.of("/source", code, detail)


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
        sixteen_bit_range=info.get("sixteen_bit_range"),
        class_names=info["classes"],
        reported_top1=report["student"]["top1"],
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
    """Copy the bytes, because the job may be deleted before the model. Return the new key."""
    key = f"{artifact.project_id}/models/{artifact.sha256}"
    object_store.copy(artifact.object_key, key)
    return key


def _from_pretrained(session: Session, body: ModelCreate, caller: Principal) -> Model:
    entry, source = resolve_pretrained(body.source or "")
    # The metadata of the downloaded weights replaces these values of the catalog.
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
    return _add_unverified(session, model, caller)


def _from_upload(session: Session, body: ModelCreate, caller: Principal) -> Model:
    require_complete_upload(session, body.upload_id, caller)
    # Without an architecture, the worker that infers it sets its defaults, too.
    is_program = body.architecture in PROGRAM_FORMATS
    entry = architectures()[body.architecture] if body.architecture and not is_program else None
    normalization = body.normalization or (entry.normalization if entry else None)
    warnings = [
        f"{name} is missing: the default of the architecture is used; a wrong value makes the "
        "teacher inaccurate"
        for name in ("normalization", "input_size")
        if getattr(body, name) is None and not is_program
    ]
    model = Model(
        id=new_id("mdl"),
        project_id=caller.project_id,
        name=body.name,
        source=f"upload:{body.upload_id}",
        upload_id=body.upload_id,
        architecture=body.architecture,
        num_classes=body.num_classes,
        input_size=body.input_size or (entry.input_size if entry else None),
        normalization=normalization.model_dump(mode="json") if normalization else None,
        normalization_declared=body.normalization is not None,
        input_size_declared=body.input_size is not None,
        class_names=list(body.class_names) if body.class_names else None,
        reported_top1=body.reported_top1,
        license=body.license,
        labels={},
        warnings=warnings,
        state="verifying",
    )
    return _add_unverified(
        session, model, caller, {"key_map": body.key_map, "weights": body.weights}
    )


def _add_unverified(
    session: Session, model: Model, caller: Principal, spec: dict[str, Any] | None = None
) -> Model:
    """Store a model and the job that verifies its weights, with the options in ``spec``."""
    session.add(model)
    session.flush()
    job = preparation_job("model", model.name, caller, model_id=model.id)
    job.spec = spec or {}
    jobs.create(session, job)
    return model
