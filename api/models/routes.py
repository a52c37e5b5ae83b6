"""Models: weights of teachers and students. Uploaded weights are verified before use."""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter, JobReader
from api.http.downloads import DOWNLOAD_RESPONSES, download_response
from api.http.etag import asset_tag, etag_response, if_match
from api.http.idempotency import idempotent_post, run_idempotent
from api.http.pagination import PageQueryDep
from api.http.problems import ConflictError, InvalidRequestError, ProblemError
from api.http.routing import v1_router
from api.models.schemas import ModelCreate, ModelOut, ModelPage, ModelState, ModelUpdate
from api.models.serializers import serialize_model
from api.models.service import create_model_row, delete_model_row
from api.uploads.service import UploadBodyRoute
from store.database import transaction
from store.tables import Model

router = v1_router("/models", "models")


@idempotent_post(router, response_model=ModelOut, route_class=UploadBodyRoute)
def create_model(body: ModelCreate, request: Request, caller: DataWriter) -> Response:
    """Create a model from an upload, an earlier job's student or pretrained weights.

    The student of a job is ready immediately. A worker verifies uploaded weights and downloads
    pretrained weights; `error` says why that failed.
    """
    return run_idempotent(request, caller, lambda session: create_model_row(session, body, caller))


@router.get("", response_model=ModelPage)
def list_models(
    caller: JobReader,
    page_query: PageQueryDep,
    source: Annotated[
        str | None, Query(description="The `source` of the models, such as `job:<id>`")
    ] = None,
    state: ModelState | None = None,
) -> Response:
    """List the project's models, the newest first."""
    filters = {Model.source: source, Model.state: state}
    conditions = [column == value for column, value in filters.items() if value is not None]
    return scoping.list_rows(Model, caller, page_query, serialize_model, *conditions)


@router.get("/{model_id}", response_model=ModelOut)
def get_model(model_id: str, request: Request, caller: JobReader) -> Response:
    """Get a model: its state, its architecture, and its error if the weights are invalid."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
        return _model_response(request, model)


@router.patch("/{model_id}", response_model=ModelOut)
def update_model(
    model_id: str, body: ModelUpdate, request: Request, caller: DataWriter
) -> Response:
    """Change name, class names, license or labels.

    With `If-Match`, only if the model has not changed.
    """
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
        if not if_match(request, model.rev):
            raise ProblemError(412, "precondition_failed", "the model has changed; get it again")
        if body.class_names is not None and len(body.class_names) != model.num_classes:
            number = "an unknown number of" if model.num_classes is None else model.num_classes
            detail = f"the model has {number} classes: name each of them"
            raise InvalidRequestError.of("/class_names", "classes_mismatch", detail)
        for name in body.model_fields_set:
            if name != "license" and getattr(body, name) is None:
                continue
            setattr(model, name, getattr(body, name))
        model.rev += 1
        session.flush()
        return _model_response(request, model)


def _model_response(request: Request, model: Model) -> Response:
    body = serialize_model(model)
    return etag_response(request, body, asset_tag(model.rev, body["waiting_reason"]))


@router.delete("/{model_id}", status_code=204, response_class=Response)
def delete_model(model_id: str, caller: DataWriter) -> Response:
    """Delete a model that no unfinished job uses."""
    with transaction() as session:
        delete_model_row(session, model_id, caller)
    return Response(status_code=204)


@router.get("/{model_id}/weights", response_class=Response, responses=DOWNLOAD_RESPONSES)
def get_model_weights(model_id: str, request: Request, caller: JobReader) -> Response:
    """Download the weights as safetensors, or the file of a network as it was verified."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
    if model.object_key is None or model.sha256 is None or model.size_bytes is None:
        detail = f"the model has no weights yet (state: {model.state})"
        raise ConflictError("not_ready", detail, current_state=model.state)
    suffix = {"onnx": ".onnx", "exported_program": ".pt2"}.get(
        model.architecture or "", ".safetensors"
    )
    return download_response(
        request, model.object_key, model.size_bytes, model.sha256, f"{model.id}{suffix}"
    )
