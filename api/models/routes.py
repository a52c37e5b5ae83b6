"""Models: teachers and students alike. Uploaded weights are verified before they can be used."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.datasets.routes import UploadBodyRoute
from api.http import scoping
from api.http.auth import DataWriter, JobReader
from api.http.downloads import DOWNLOAD_RESPONSES, download_response
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, CreatedResource, run_idempotent
from api.http.pagination import PageQueryDep, paginate
from api.http.problems import ConflictError, ProblemError
from api.http.responses import etag_response, if_match
from api.http.router import v1_router
from api.models.schemas import ModelCreate, ModelOut, ModelPage, ModelState, ModelUpdate
from api.models.service import model_factory
from api.predictions.routes import predict_router
from store import jobs
from store.database import transaction
from store.tables import Job, Model

models_router = v1_router("/models", "models")
model_creation_router = v1_router("/models", "models")
model_creation_router.route_class = UploadBodyRoute
models_router.include_router(predict_router)

_FIELDS = (
    *("id", "name", "state", "source", "architecture", "num_classes", "in_channels", "input_size"),
    *("normalization", "class_names", "license", "labels", "num_params", "size_bytes", "sha256"),
    *("error", "warnings", "created_at", "ready_at"),
)


def serialize_model(model: Model) -> dict[str, Any]:
    """A model as answers carry it."""
    self_url = f"/v1/models/{model.id}"
    return {
        "object": "model",
        **{name: getattr(model, name) for name in _FIELDS},
        "links": {
            "self": self_url,
            "weights": f"{self_url}/weights",
            "predict": f"{self_url}/predict",
        },
    }


@model_creation_router.post(
    "", status_code=201, dependencies=IDEMPOTENCY_DEPENDENCIES, response_model=ModelOut
)
def create_model(body: ModelCreate, request: Request, caller: DataWriter) -> Response:
    """Store a model. An earlier job's student is ready at once.

    Uploaded weights are checked first, published ones downloaded; a download that fails is told in
    `error`.
    """
    make = model_factory(body.source)
    with transaction() as session:
        return run_idempotent(
            session,
            request,
            caller.project_id,
            lambda: _created_model(session, make(session, body, caller)),
        )


def _created_model(session: Session, model: Model) -> CreatedResource:
    session.flush()
    session.refresh(model)
    return CreatedResource(serialize_model(model), f"/v1/models/{model.id}")


@models_router.get("", response_model=ModelPage)
def list_models(
    caller: JobReader,
    page_query: PageQueryDep,
    source: Annotated[str | None, Query(description="As it was given: `job:<id>`, …")] = None,
    state: ModelState | None = None,
) -> Response:
    """Models, the newest first."""
    with transaction() as session:
        query = select(Model).where(Model.project_id == caller.project_id)
        if source is not None:
            query = query.where(Model.source == source)
        if state is not None:
            query = query.where(Model.state == state)
        return paginate(session, query, serialize_model, page_query)


@models_router.get("/{model_id}", response_model=ModelOut)
def get_model(model_id: str, request: Request, caller: JobReader) -> Response:
    """One model: its state, what it is, or what is wrong with its checkpoint."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
        return etag_response(request, serialize_model(model), str(model.rev))


@models_router.patch("/{model_id}", response_model=ModelOut)
def update_model(
    model_id: str, body: ModelUpdate, request: Request, caller: DataWriter
) -> Response:
    """Change name, license or labels; with ``If-Match``, only the version that you have seen."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
        if not if_match(request, model.rev):
            raise ProblemError(412, "precondition_failed", "the model has changed; get it again")
        for name in body.model_fields_set:
            if name != "license" and getattr(body, name) is None:
                continue
            setattr(model, name, getattr(body, name))
        model.rev += 1
        session.flush()
        return etag_response(request, serialize_model(model), str(model.rev))


@models_router.delete("/{model_id}", status_code=204, response_class=Response)
def delete_model(model_id: str, caller: DataWriter) -> Response:
    """Delete a model that no unfinished job uses."""
    with transaction() as session:
        scoping.get_or_404(session, Model, model_id, caller)
        # A worker that ends the model's own job locks the two in this order.
        session.execute(select(Job.id).where(Job.model_id == model_id).with_for_update())
        model = scoping.get_or_404(session, Model, model_id, caller, lock=True)
        dependent_id = session.scalar(
            select(Job.id)
            .where(Job.model_ids.contains([model.id]), Job.state.not_in(jobs.TERMINAL_STATES))
            .limit(1)
        )
        if dependent_id is not None or model.state == "verifying":
            detail = f"{dependent_id} uses it" if dependent_id else "it is being verified"
            raise ConflictError("in_use", detail, current_state=model.state)
        session.delete(model)
    return Response(status_code=204)


@models_router.get("/{model_id}/weights", response_class=Response, responses=DOWNLOAD_RESPONSES)
def get_weights(model_id: str, request: Request, caller: JobReader) -> Response:
    """The weights as safetensors."""
    with transaction() as session:
        model = scoping.get_or_404(session, Model, model_id, caller)
    if model.object_key is None or model.sha256 is None or model.size_bytes is None:
        detail = f"a model that is {model.state} has no weights"
        raise ConflictError("not_ready", detail, current_state=model.state)
    return download_response(
        request, model.object_key, model.size_bytes, model.sha256, f"{model.id}.safetensors"
    )
