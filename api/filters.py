"""Which jobs a list is of: a dependency that reads the query and says it in SQL."""

from typing import Annotated, Literal

from fastapi import Depends, Query
from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, or_

from api.problems import Invalid
from api.schemas.jobs import State
from kdcore.spec.faults import Fault
from store.tables import Job


class Filters:
    """What must hold of every job of the list."""

    def __init__(  # noqa: PLR0913 - each is a filter of the contract
        self,
        state: Annotated[
            list[State] | None, Query(description="May be given several times")
        ] = None,
        kind: Annotated[Literal["distill", "evaluate"] | None, Query()] = None,
        method: Annotated[
            list[str] | None,
            Query(max_length=32, description="Given several times, the job sums all of them"),
        ] = None,
        architecture: Annotated[str | None, Query(max_length=200)] = None,
        dataset: Annotated[str | None, Query(max_length=64)] = None,
        model: Annotated[
            str | None, Query(max_length=64, description="A teacher, the start, or the evaluated")
        ] = None,
        from_: Annotated[
            str | None, Query(alias="from", max_length=64, description="A job it goes on from")
        ] = None,
        label: Annotated[
            list[str] | None,
            Query(max_length=64, description="key:value; may be given several times"),
        ] = None,
        q: Annotated[
            str | None, Query(max_length=200, description="In the name, or the id")
        ] = None,
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
        if from_:
            self.wanted.append(Job.spec["from"]["job"].astext == from_)
        if created_after:
            self.wanted.append(Job.created_at > created_after)
        equal = {Job.kind: kind, Job.architecture: architecture, Job.dataset_id: dataset}
        self.wanted += [column == value for column, value in equal.items() if value]


Filtered = Annotated[Filters, Depends()]


def _labelled(labels: list[str]) -> list[ColumnElement[bool]]:
    pairs = [label.partition(":") for label in labels]
    if any(not colon for _, colon, _ in pairs):
        raise Invalid([Fault(pointer="?label", code="bad_label", detail="must be key:value")])
    return [Job.labels.contains({key: value}) for key, _, value in pairs]
