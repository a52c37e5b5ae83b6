"""Models: teachers and students alike. Uploaded weights are verified before they can be used."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.datasets.routes import UploadingRoute
from api.http import scoping
from api.http.auth import DataWriter, Reader
from api.http.downloads import BYTES, content
from api.http.idempotency import KEYED, Created, once
from api.http.pagination import PageAsked, page
from api.http.problems import Conflict, Problem
from api.http.responses import matches, tagged
from api.http.router import router
from api.models.schemas import ModelChange, ModelCreate, ModelOut, ModelPage, State
from api.models.service import origin
from api.predictions.routes import predicting
from store import jobs
from store.database import transaction
from store.tables import Job, Model

models = router("/models", "models")
posting = router("/models", "models")
posting.route_class = UploadingRoute
models.include_router(predicting)

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
        "links": {"self": own, "weights": f"{own}/weights", "predict": f"{own}/predict"},
    }


@posting.post("", status_code=201, dependencies=KEYED, response_model=ModelOut)
def create_model(body: ModelCreate, request: Request, caller: DataWriter) -> Response:
    """Store a model. An earlier job's student is ready at once.

    Uploaded weights are checked first, published ones downloaded; a download that fails is told in
    `error`.
    """
    make = origin(body.source)
    with transaction() as session:
        return once(
            session,
            request,
            caller.project_id,
            lambda: _created(session, make(session, body, caller)),
        )


def _created(session: Session, model: Model) -> Created:
    session.flush()
    session.refresh(model)
    return Created(show(model), f"/v1/models/{model.id}")


@models.get("", response_model=ModelPage)
def list_models(
    caller: Reader,
    asked: PageAsked,
    source: Annotated[str | None, Query(description="As it was given: `job:<id>`, …")] = None,
    state: State | None = None,
) -> Response:
    """Models, the newest first."""
    with transaction() as session:
        query = select(Model).where(Model.project_id == caller.project_id)
        if source is not None:
            query = query.where(Model.source == source)
        if state is not None:
            query = query.where(Model.state == state)
        return page(session, query, show, asked)


@models.get("/{model_id}", response_model=ModelOut)
def get_model(model_id: str, request: Request, caller: Reader) -> Response:
    """One model: its state, what it is, or what is wrong with its checkpoint."""
    with transaction() as session:
        model = scoping.get(session, Model, model_id, caller)
        return tagged(request, show(model), str(model.rev))


@models.patch("/{model_id}", response_model=ModelOut)
def change_model(
    model_id: str, body: ModelChange, request: Request, caller: DataWriter
) -> Response:
    """Change name, licence or labels; with ``If-Match``, only the version that you have seen."""
    with transaction() as session:
        model = scoping.get(session, Model, model_id, caller, lock=True)
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
        scoping.get(session, Model, model_id, caller)
        # A worker that ends the model's own job locks the two in this order.
        session.execute(select(Job.id).where(Job.model_id == model_id).with_for_update())
        model = scoping.get(session, Model, model_id, caller, lock=True)
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
        model = scoping.get(session, Model, model_id, caller)
    if model.object_key is None or model.sha256 is None or model.size_bytes is None:
        detail = f"a model that is {model.state} has no weights"
        raise Conflict("not_ready", detail, current_state=model.state)
    return content(
        request, model.object_key, model.size_bytes, model.sha256, f"{model.id}.safetensors"
    )
