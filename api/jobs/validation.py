"""Whether a job can be done: what it refers to, whether that fits, what it resolves to.

Faults of fields and faults of what they refer to come in one answer, so that nobody mends a request
in five rounds.
"""

from typing import NamedTuple, TypeVar

from sqlalchemy.orm import Session
from typing_extensions import override

from api.http import scoping
from api.http.problems import InvalidRequestError
from api.http.routing import V1Route
from api.jobs.continuation import continuation_issues, derivation_issues
from kdcore.schema.defaults import job_warnings, resolve_job
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.validation.compatibility import (
    DatasetFacts,
    ModelFacts,
    PartialJob,
    compatibility_issues,
    teacher_student_pair,
)
from kdcore.schema.validation.cross_field import cross_field_issues
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.method_compatibility import Incompatibility, find_incompatibilities
from store.access.credentials import Principal
from store.tables import Dataset, Model

Asset = TypeVar("Asset", Dataset, Model)


class ValidatedJob(NamedTuple):
    """A job that can be done."""

    resolved: ResolvedJob
    dataset: DatasetFacts
    teachers: tuple[ModelFacts, ...]
    warnings: list[str]
    incompatibilities: dict[str, Incompatibility | None]
    """Every method, and what forbids it for this pair."""


def validate_job(session: Session, spec: JobSpec, caller: Principal) -> ValidatedJob:
    """Resolve a job against what the project has; an Invalid problem with all that forbids it."""
    partial_job = PartialJob.from_body(spec.model_dump())
    assets = _check_references(session, partial_job, caller)
    if assets.issues or assets.dataset is None:
        raise InvalidRequestError(assets.issues)
    teachers = tuple(teacher for teacher in assets.teachers if teacher is not None)
    resolved = resolve_job(spec, assets.dataset, teachers, assets.model)
    if issues := derivation_issues(session, resolved, assets.init, caller):
        raise InvalidRequestError(issues)
    return ValidatedJob(
        resolved,
        assets.dataset,
        teachers,
        job_warnings(spec, assets.dataset),
        find_incompatibilities(teacher_student_pair(partial_job, teachers, assets.dataset)),
    )


class ReferencedAssets(NamedTuple):
    """What a request refers to, and everything that is wrong with it."""

    dataset: DatasetFacts | None
    teachers: list[ModelFacts | None]
    init: ModelFacts | None
    model: ModelFacts | None
    issues: list[ValidationIssue]


def _check_references(
    session: Session, partial_job: PartialJob, caller: Principal
) -> ReferencedAssets:
    """Look up what is referred to."""
    issues: list[ValidationIssue] = list(cross_field_issues(partial_job))
    dataset = _find_ready(session, Dataset, partial_job.dataset, "/dataset", caller, issues)
    teachers = [
        _model_facts(
            _find_ready(
                session, Model, teacher.model, f"/teachers/{position}/model", caller, issues
            )
        )
        for position, teacher in enumerate(partial_job.teachers)
    ]
    init = _model_facts(
        _find_ready(session, Model, partial_job.init_model, "/student/init", caller, issues)
    )
    model = _model_facts(_find_ready(session, Model, partial_job.model, "/model", caller, issues))
    if dataset is None:
        return ReferencedAssets(None, teachers, init, model, issues)
    facts = _dataset_facts(dataset)
    issues += compatibility_issues(partial_job, facts, teachers, init, model)
    issues += continuation_issues(session, partial_job, facts, caller)
    return ReferencedAssets(facts, teachers, init, model, issues)


def _find_ready(
    session: Session,
    table: type[Asset],
    row_id: str | None,
    pointer: str,
    caller: Principal,
    issues: list[ValidationIssue],
) -> Asset | None:
    if row_id is None:
        return None
    what = "data set" if table is Dataset else "model"
    row = scoping.get_or_none(session, table, row_id, caller, lock="share")
    if row is None:
        issues.append(
            ValidationIssue(pointer=pointer, code="not_found", detail=f"there is no such {what}")
        )
        return None
    if row.state != "ready":
        detail = f"this {what} is {row.state}, not ready"
        if row.error:
            detail = f"{detail}: {row.error['message']}"
        issues.append(ValidationIssue(pointer=pointer, code="not_ready", detail=detail))
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
        num_unlabeled=(info["splits"].get("unlabeled") or {}).get("count", 0),
    )


def _model_facts(model: Model | None) -> ModelFacts | None:
    if model is None:
        return None
    return ModelFacts(
        architecture=model.architecture,
        num_classes=model.num_classes,
        in_channels=model.in_channels or 3,
    )


class JobBodyRoute(V1Route):
    """A route whose body is a job: when its fields are faulty, what it refers to is checked too."""

    @override
    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        # What is no object refers to nothing: that it is none is told already.
        known = isinstance(body, dict)
        return (
            _check_references(session, PartialJob.from_body(body), caller).issues if known else []
        )
