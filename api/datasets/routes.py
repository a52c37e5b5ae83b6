"""Data sets: created from an upload or a built-in source, immutable once they are ready."""

from fastapi import Request
from starlette.responses import Response

from api.datasets.schemas import DatasetCreate, DatasetOut, DatasetPage
from api.datasets.serializers import serialize_dataset
from api.datasets.service import DatasetBodyRoute, create_dataset_row, delete_dataset_row
from api.http import scoping
from api.http.auth import DataWriter, JobReader
from api.http.etag import asset_tag, etag_response
from api.http.idempotency import idempotent_post, run_idempotent
from api.http.pagination import PageQueryDep
from api.http.routing import v1_router
from store.database import transaction
from store.tables import Dataset

router = v1_router("/datasets", "data sets")


@idempotent_post(router, response_model=DatasetOut, route_class=DatasetBodyRoute)
def create_dataset(body: DatasetCreate, request: Request, caller: DataWriter) -> Response:
    """Create a data set. A worker opens, checks and decodes its bytes afterwards."""
    return run_idempotent(
        request, caller, lambda session: create_dataset_row(session, body, caller)
    )


@router.get("", response_model=DatasetPage)
def list_datasets(caller: JobReader, page_query: PageQueryDep) -> Response:
    """List the project's data sets, the newest first."""
    return scoping.list_rows(Dataset, caller, page_query, serialize_dataset)


@router.get("/{dataset_id}", response_model=DatasetOut)
def get_dataset(dataset_id: str, request: Request, caller: JobReader) -> Response:
    """Get a data set: its state, classes, splits with counts, digest, and error if it failed."""
    with transaction() as session:
        dataset = scoping.get_or_404(session, Dataset, dataset_id, caller)
        body = serialize_dataset(dataset)
        return etag_response(request, body, asset_tag(dataset.rev, body["waiting_reason"]))


@router.delete("/{dataset_id}", status_code=204, response_class=Response)
def delete_dataset(dataset_id: str, caller: DataWriter) -> Response:
    """Delete a data set that no job refers to."""
    with transaction() as session:
        delete_dataset_row(
            session, scoping.get_or_404(session, Dataset, dataset_id, caller, lock=True)
        )
    return Response(status_code=204)
