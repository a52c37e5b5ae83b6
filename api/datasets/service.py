"""Create and delete data sets; create the jobs of the ``prepare`` queue, which open bytes."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from typing_extensions import override

from api.datasets.schemas import DatasetCreate
from api.datasets.serializers import serialize_dataset
from api.http import scoping
from api.http.idempotency import CreatedResource
from api.http.problems import ConflictError, InvalidRequestError
from api.uploads.service import UploadBodyRoute, require_complete_upload
from kdcore.schema.dataset_sources import is_file_source, parse_file_source
from kdcore.schema.job_kinds import JOB_KINDS, PREPARING_KINDS, PreparedAsset
from kdcore.schema.validation.errors import ValidationIssue
from store import jobs
from store.access.credentials import Principal
from store.access.source_rules import matching_rule
from store.ids import new_id
from store.settings import settings
from store.tables import Dataset, Job


def create_dataset_row(session: Session, body: DatasetCreate, caller: Principal) -> CreatedResource:
    """Store a data set and the job that ingests it.

    Raises:
        InvalidRequestError: the upload is missing, incomplete or discarded, or the project may not
            read the source.
    """
    require_complete_upload(session, body.upload_id, caller)
    require_allowed_source(body.source, caller)
    dataset = Dataset(
        id=new_id("ds"),
        project_id=caller.project_id,
        name=body.name,
        source=body.source or f"upload:{body.upload_id}",
        upload_id=body.upload_id,
        split_seed=body.split_seed,
        on_bad_image=body.on_bad_image,
        on_duplicates=body.on_duplicates,
        state="ingesting",
    )
    session.add(dataset)
    session.flush()
    job = preparation_job("dataset", dataset.name, caller, dataset_id=dataset.id)
    job.spec = {"image_size": body.image_size}
    jobs.create(session, job)
    session.refresh(dataset)
    return CreatedResource(serialize_dataset(dataset), f"/v1/datasets/{dataset.id}")


def require_allowed_source(source: object, caller: Principal) -> None:
    """Raise an ``InvalidRequestError`` for files that the project may not read.

    The error is the same whether the files exist or not, and whether another project may read them.
    """
    if not isinstance(source, str) or not is_file_source(source):
        return
    try:
        address = parse_file_source(source).address
    except ValueError:
        return  # an issue of the field
    if matching_rule(settings().sources, address, caller.project_id) is None:
        detail = (
            "the project may not read this source; the operator allows sources with the setting "
            "STILLHOUSE_SOURCES"
        )
        raise InvalidRequestError.of("/source", "source_not_allowed", detail)


class DatasetBodyRoute(UploadBodyRoute):
    """A route whose body may name a source: an issue of it comes with the other issues."""

    @override
    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        issues = super().extra_issues(session, body, caller)
        try:
            require_allowed_source(body.get("source") if isinstance(body, dict) else None, caller)
        except InvalidRequestError as invalid:
            return [*issues, *invalid.issues]
        return issues


def delete_dataset_row(session: Session, dataset: Dataset) -> None:
    """Delete a data set and its ingestion job.

    Raises:
        ConflictError: it is being ingested, or a job refers to it.
    """
    if dataset.state == "ingesting":
        detail = "the data set is being ingested; delete it when it is ready or failed"
        raise ConflictError("in_use", detail, current_state=dataset.state)
    dependent_id = session.scalar(
        select(Job.id)
        .where(Job.dataset_id == dataset.id, Job.queue == scoping.TRAIN_QUEUE)
        .limit(1)
    )
    if dependent_id is not None:
        detail = f"{dependent_id} refers to the data set; delete its jobs first"
        raise ConflictError("in_use", detail, current_state=dataset.state)
    session.execute(delete(Job).where(Job.dataset_id == dataset.id))
    session.delete(dataset)


def preparation_job(asset: PreparedAsset, name: str, caller: Principal, **owner: str) -> Job:
    """A job that prepares an asset; ``owner`` is the column and id of the data set or model."""
    kind = JOB_KINDS[PREPARING_KINDS[asset]]
    return Job(
        id=new_id("job"),
        project_id=caller.project_id,
        kind=kind.name,
        queue=kind.queue,
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
