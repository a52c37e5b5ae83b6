"""Data sets: made from an upload or a built-in source, immutable once they are ready."""

from typing import Any

from fastapi import Request
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from starlette.responses import Response
from typing_extensions import override

from api.datasets.schemas import DatasetCreate, DatasetOut, DatasetPage
from api.http import scoping
from api.http.auth import DataWriter, JobReader
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, CreatedResource, run_idempotent
from api.http.pagination import PageQueryDep, paginate
from api.http.problems import ConflictError, InvalidRequestError
from api.http.responses import etag_response
from api.http.router import v1_router
from api.http.routing import V1Route
from kdcore.schema.validation.errors import ValidationIssue
from store import jobs
from store.access.credentials import Principal
from store.database import transaction
from store.ids import new_id
from store.tables import Dataset, Job, Upload

datasets_router = v1_router("/datasets", "data sets")
dataset_creation_router = v1_router("/datasets", "data sets")


def serialize_dataset(dataset: Dataset) -> dict[str, Any]:
    """A data set as answers carry it."""
    info = dataset.info or {}
    return {
        "id": dataset.id,
        "object": "dataset",
        "name": dataset.name,
        "state": dataset.state,
        "source": dataset.source,
        "split_seed": dataset.split_seed,
        "classes": info.get("classes"),
        "num_classes": len(info["classes"]) if info else None,
        "splits": info.get("splits"),
        "in_channels": info.get("in_channels"),
        "image_size": info.get("image_size"),
        "normalization": info.get("normalization"),
        "digest": info.get("digest"),
        "size_bytes": dataset.size_bytes,
        "error": dataset.error,
        "created_at": dataset.created_at,
        "ready_at": dataset.ready_at,
        "links": {"self": f"/v1/datasets/{dataset.id}"},
    }


class UploadBodyRoute(V1Route):
    """A route whose body names an upload: when its fields are faulty, that is checked too."""

    @override
    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        upload_id = body.get("upload_id") if isinstance(body, dict) else None
        try:
            require_complete_upload(
                session, upload_id if isinstance(upload_id, str) else None, caller
            )
        except InvalidRequestError as invalid:
            return invalid.issues
        return []


dataset_creation_router.route_class = UploadBodyRoute


def require_complete_upload(session: Session, upload_id: str | None, caller: Principal) -> None:
    """An Invalid problem unless something can be made of the upload, if one is given."""
    if upload_id is None:
        return
    upload = scoping.get_or_none(session, Upload, upload_id, caller, lock="share")
    if upload is None:
        detail, code = "there is no such upload", "not_found"
    elif upload.state == "open":
        detail, code = "this upload is not complete: POST to its /complete first", "not_complete"
    elif upload.state == "discarded":
        detail, code = "the bytes of this upload were bad and are deleted; send others", "discarded"
    else:
        return
    raise InvalidRequestError([ValidationIssue(pointer="/upload_id", code=code, detail=detail)])


@dataset_creation_router.post(
    "", status_code=201, dependencies=IDEMPOTENCY_DEPENDENCIES, response_model=DatasetOut
)
def create_dataset(body: DatasetCreate, request: Request, caller: DataWriter) -> Response:
    """Store a data set and have its bytes opened, checked and decoded once."""
    with transaction() as session:
        return run_idempotent(
            session, request, caller.project_id, lambda: _create(session, body, caller)
        )


def _create(session: Session, body: DatasetCreate, caller: Principal) -> CreatedResource:
    require_complete_upload(session, body.upload_id, caller)
    dataset = Dataset(
        id=new_id("ds"),
        project_id=caller.project_id,
        name=body.name,
        source=body.source or f"upload:{body.upload_id}",
        upload_id=body.upload_id,
        split_seed=body.split_seed,
        state="ingesting",
    )
    session.add(dataset)
    session.flush()
    job = preparation_job("ingest", dataset.name, caller, dataset_id=dataset.id)
    job.spec = {"image_size": body.image_size}
    jobs.create(session, job)
    session.refresh(dataset)
    return CreatedResource(serialize_dataset(dataset), f"/v1/datasets/{dataset.id}")


def preparation_job(kind: str, name: str, caller: Principal, **owner: str) -> Job:
    """A job of the prepare queue, which opens bytes."""
    return Job(
        id=new_id("job"),
        project_id=caller.project_id,
        kind=kind,
        queue="prepare",
        name=name,
        labels={},
        priority=0,
        spec={},
        resolved={},
        model_ids=[],
        methods=[],
        summary={},
        **owner,
    )


@datasets_router.get("", response_model=DatasetPage)
def list_datasets(caller: JobReader, page_query: PageQueryDep) -> Response:
    """Data sets, the newest first."""
    with transaction() as session:
        query = select(Dataset).where(Dataset.project_id == caller.project_id)
        return paginate(session, query, serialize_dataset, page_query)


@datasets_router.get("/{dataset_id}", response_model=DatasetOut)
def get_dataset(dataset_id: str, request: Request, caller: JobReader) -> Response:
    """One data set: its state, classes, splits with counts, digest, or what is wrong with it."""
    with transaction() as session:
        dataset = scoping.get_or_404(session, Dataset, dataset_id, caller)
        return etag_response(request, serialize_dataset(dataset), str(dataset.rev))


@datasets_router.delete("/{dataset_id}", status_code=204, response_class=Response)
def delete_dataset(dataset_id: str, caller: DataWriter) -> Response:
    """Delete a data set that no job refers to."""
    with transaction() as session:
        dataset = scoping.get_or_404(session, Dataset, dataset_id, caller, lock=True)
        if dataset.state == "ingesting":
            detail = "it is being ingested; delete it when it is ready or failed"
            raise ConflictError("in_use", detail, current_state=dataset.state)
        dependent_id = session.scalar(
            select(Job.id)
            .where(Job.dataset_id == dataset.id, Job.queue == scoping.TRAIN_QUEUE)
            .limit(1)
        )
        if dependent_id is not None:
            detail = f"{dependent_id} refers to it; delete its jobs first"
            raise ConflictError("in_use", detail, current_state=dataset.state)
        session.execute(delete(Job).where(Job.dataset_id == dataset.id))
        session.delete(dataset)
    return Response(status_code=204)
