"""Which jobs a list is of: a dependency that reads the query and says it in SQL."""

from typing import Annotated, Literal

from fastapi import Depends, Query
from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, or_

from api.http.problems import Invalid
from api.jobs.schemas import State
from kdcore.schema.validation.errors import Fault
from store.tables import Job

Text = Annotated[str | None, Query(max_length=200)]
Id = Annotated[str | None, Query(max_length=64)]
States = Annotated[list[State] | None, Query(description="May be given several times")]
Methods = Annotated[
    list[str] | None,
    Query(max_length=32, description="Given several times, the job sums all of them"),
]
Labels = Annotated[
    list[str] | None,
    Query(max_length=64, description="key:value; may be given several times"),
]
Named = Annotated[str | None, Query(max_length=200, description="In the name, or the id")]
UsedModel = Annotated[
    str | None, Query(max_length=64, description="A teacher, the start, or the evaluated")
]
Earlier = Annotated[
    str | None, Query(alias="from", max_length=64, description="A job it goes on from")
]


class Filters:
    """What must hold of every job of the list."""

    def __init__(  # noqa: PLR0913 - each is a filter of the contract
        self,
        state: States = None,
        kind: Literal["distill", "evaluate", "warm"] | None = None,
        method: Methods = None,
        architecture: Text = None,
        dataset: Id = None,
        model: UsedModel = None,
        from_: Earlier = None,
        label: Labels = None,
        q: Named = None,
        created_after: AwareDatetime | None = None,
    ) -> None:
        self.wanted: list[ColumnElement[bool]] = _labelled(label or [])
        if state:
            self.wanted.append(Job.state.in_(state))
        if method:
            self.wanted.append(Job.methods.contains(method))
        if q:
            self.wanted.append(or_(Job.name.icontains(q, autoescape=True), Job.id == q))
        if model:
            evaluated = Job.spec["model"].astext == model
            self.wanted.append(or_(Job.model_ids.contains([model]), evaluated))
        if created_after:
            self.wanted.append(Job.created_at > created_after)
        earlier = Job.spec["from"]["job"].astext
        equal = {Job.kind: kind, Job.architecture: architecture, Job.dataset_id: dataset}
        self.wanted += [column == value for column, value in equal.items() if value]
        self.wanted += [earlier == from_] if from_ else []


Filtered = Annotated[Filters, Depends()]


def _labelled(labels: list[str]) -> list[ColumnElement[bool]]:
    pairs = [label.partition(":") for label in labels]
    if any(not colon for _, colon, _ in pairs):
        raise Invalid([Fault(pointer="?label", code="bad_label", detail="must be key:value")])
    return [Job.labels.contains({key: value}) for key, _, value in pairs]
