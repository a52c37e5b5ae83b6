"""Whether a job can be done: what it refers to, whether that fits, what it resolves to.

Faults of fields and faults of what they refer to come in one answer, so that nobody mends a request
in five rounds.
"""

from typing import NamedTuple, TypeVar

from sqlalchemy.orm import Session
from typing_extensions import override

from api.http import scoping
from api.http.problems import Invalid
from api.http.routing import V1Route
from api.jobs.continuation import derivation_faults, earlier_faults
from kdcore.schema.defaults import resolve, warnings
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.validation.compatibility import (
    DatasetFacts,
    ModelFacts,
    References,
    misfits,
    pair_of,
)
from kdcore.schema.validation.cross_field import contradictions
from kdcore.schema.validation.errors import Fault
from kdcore.schema.validation.method_compatibility import Misfit, applicability
from store.access.credentials import Principal
from store.tables import Dataset, Model

Asset = TypeVar("Asset", Dataset, Model)


class Admitted(NamedTuple):
    """A job that can be done."""

    resolved: ResolvedJob
    dataset: DatasetFacts
    teachers: tuple[ModelFacts, ...]
    warnings: list[str]
    applicability: dict[str, Misfit | None]
    """Every method, and what forbids it for this pair."""


def admit(session: Session, spec: JobSpec, caller: Principal) -> Admitted:
    """Resolve a job against what the project has; an Invalid problem with all that forbids it."""
    asked = References.of(spec.model_dump())
    found = _check(session, asked, caller)
    if found.faults or found.dataset is None:
        raise Invalid(found.faults)
    teachers = tuple(teacher for teacher in found.teachers if teacher is not None)
    resolved = resolve(spec, found.dataset, teachers, found.model)
    if faults := derivation_faults(session, resolved, found.init, caller):
        raise Invalid(faults)
    return Admitted(
        resolved,
        found.dataset,
        teachers,
        warnings(spec, found.dataset),
        applicability(pair_of(asked, teachers, found.dataset)),
    )


class Found(NamedTuple):
    """What a request refers to, and everything that is wrong with it."""

    dataset: DatasetFacts | None
    teachers: list[ModelFacts | None]
    init: ModelFacts | None
    model: ModelFacts | None
    faults: list[Fault]


def _check(session: Session, asked: References, caller: Principal) -> Found:
    """Look up what is referred to."""
    faults: list[Fault] = list(contradictions(asked))
    dataset = _ready(session, Dataset, asked.dataset, "/dataset", caller, faults)
    teachers = [
        _model_facts(
            _ready(session, Model, asked_.model, f"/teachers/{position}/model", caller, faults)
        )
        for position, asked_ in enumerate(asked.teachers)
    ]
    init = _model_facts(_ready(session, Model, asked.init, "/student/init", caller, faults))
    model = _model_facts(_ready(session, Model, asked.model, "/model", caller, faults))
    if dataset is None:
        return Found(None, teachers, init, model, faults)
    facts = _dataset_facts(dataset)
    faults += misfits(asked, facts, teachers, init, model)
    faults += earlier_faults(session, asked, facts, caller)
    return Found(facts, teachers, init, model, faults)


def _ready(
    session: Session,
    table: type[Asset],
    row_id: str | None,
    pointer: str,
    caller: Principal,
    faults: list[Fault],
) -> Asset | None:
    if row_id is None:
        return None
    what = "data set" if table is Dataset else "model"
    row = scoping.find(session, table, row_id, caller, hold="kept")
    if row is None:
        faults.append(Fault(pointer=pointer, code="not_found", detail=f"there is no such {what}"))
        return None
    if row.state != "ready":
        detail = f"this {what} is {row.state}, not ready"
        if row.error:
            detail = f"{detail}: {row.error['message']}"
        faults.append(Fault(pointer=pointer, code="not_ready", detail=detail))
        return None
    return row


def _dataset_facts(dataset: Dataset) -> DatasetFacts:
    info = dataset.info or {}
    return DatasetFacts(
        source=dataset.source,
        num_classes=len(info["classes"]),
        in_channels=info["in_channels"],
        image_size=info["image_size"],
        num_train=info["splits"]["train"]["count"],
        num_unlabelled=(info["splits"].get("unlabelled") or {}).get("count", 0),
    )


def _model_facts(model: Model | None) -> ModelFacts | None:
    if model is None:
        return None
    return ModelFacts(
        architecture=model.architecture,
        num_classes=model.num_classes,
        in_channels=model.in_channels or 3,
    )


class AdmittingRoute(V1Route):
    """A route whose body is a job: when its fields are faulty, what it refers to is checked too."""

    @override
    def more_faults(self, session: Session, body: object, caller: Principal) -> list[Fault]:
        # What is no object refers to nothing: that it is none is told already.
        known = isinstance(body, dict)
        return _check(session, References.of(body), caller).faults if known else []
