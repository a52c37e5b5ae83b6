"""Filters of the job list: a dependency that converts the query to SQL conditions."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, or_

from api.http.problems import InvalidRequestError
from api.jobs.schemas import JobState
from kdcore.schema.job_kinds import TrainKind
from kdcore.schema.validation.errors import ValidationIssue
from store.tables import Job

TextFilter = Annotated[str | None, Query(max_length=200)]
IdFilter = Annotated[str | None, Query(max_length=64)]
StateFilter = Annotated[list[JobState] | None, Query(description="Repeatable: any of these states")]
MethodFilter = Annotated[
    list[str] | None,
    Query(max_length=32, description="Repeatable: the job uses all of these methods"),
]
LabelFilter = Annotated[
    list[str] | None,
    Query(max_length=64, description="key:value; repeatable: the job has all of these labels"),
]
NameFilter = Annotated[str | None, Query(max_length=200, description="Part of the name, or the id")]
ModelFilter = Annotated[
    str | None,
    Query(max_length=64, description="Id of a model: a teacher, initial weights, or evaluated"),
]
EarlierJobFilter = Annotated[
    str | None,
    Query(alias="from", max_length=64, description="Id of the job that it continues from"),
]


class JobFilters:
    """SQL conditions that every job of the list meets."""

    def __init__(  # noqa: PLR0913 - each is a filter of the contract
        self,
        state: StateFilter = None,
        kind: TrainKind | None = None,
        method: MethodFilter = None,
        architecture: TextFilter = None,
        dataset: IdFilter = None,
        model: ModelFilter = None,
        from_: EarlierJobFilter = None,
        label: LabelFilter = None,
        q: NameFilter = None,
        created_after: AwareDatetime | None = None,
    ) -> None:
        self.conditions: list[ColumnElement[bool]] = _label_conditions(label or [])
        if state:
            self.conditions.append(Job.state.in_(state))
        if method:
            self.conditions.append(Job.methods.contains(method))
        if q:
            self.conditions.append(or_(Job.name.icontains(q, autoescape=True), Job.id == q))
        if model:
            evaluated = Job.spec["model"].astext == model
            self.conditions.append(or_(Job.model_ids.contains([model]), evaluated))
        if created_after:
            self.conditions.append(Job.created_at > created_after)
        earlier_job = Job.spec["from"]["job"].astext
        equal = {Job.kind: kind, Job.architecture: architecture, Job.dataset_id: dataset}
        self.conditions += [column == value for column, value in equal.items() if value]
        self.conditions += [earlier_job == from_] if from_ else []


JobFiltersDep = Annotated[JobFilters, Depends()]


def _label_conditions(labels: list[str]) -> list[ColumnElement[bool]]:
    pairs = [label.partition(":") for label in labels]
    if any(not colon for _, colon, _ in pairs):
        raise InvalidRequestError(
            [ValidationIssue(pointer="?label", code="bad_label", detail="must be key:value")]
        )
    return [Job.labels.contains({key: value}) for key, _, value in pairs]
