"""validate_job: look up what a job refers to, apply every rule, and resolve the job.

One response lists the issues of fields together with the issues of what they refer to.
"""

from typing import NamedTuple, TypeVar

from sqlalchemy.orm import Session
from typing_extensions import override

from api.http import scoping
from api.http.problems import InvalidRequestError
from api.http.routing import V1Route
from api.jobs.continuation import continuation_issues, derivation_issues, earlier_student
from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import job_warnings, model_warnings, resolve_job
from kdcore.schema.job import BUILT_IN_INITS, JobSpec, ResolvedJob
from kdcore.schema.validation.compatibility import JobAssets, teacher_student_pair
from kdcore.schema.validation.cross_field import Job
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.method_compatibility import Incompatibility, find_incompatibilities
from kdcore.schema.validation.partial_spec import PartialSpec, parse_partially
from kdcore.schema.validation.rules import validate
from store.access.credentials import Principal
from store.tables import Dataset, Model

Asset = TypeVar("Asset", Dataset, Model)


class ValidatedJob(NamedTuple):
    """A job that can run."""

    resolved: ResolvedJob
    dataset: DatasetFacts
    teachers: tuple[ModelFacts, ...]
    warnings: list[str]
    incompatibilities: dict[str, Incompatibility | None]
    """Every method, and why it cannot be used for this pair; None where it can."""


def validate_job(session: Session, spec: JobSpec, caller: Principal) -> ValidatedJob:
    """Resolve a job with the rows of the caller's project.

    Raises ``InvalidRequestError`` with all issues of a job that cannot run.
    """
    job = PartialSpec(spec)
    lookup = _AssetLookup(session, caller)
    assets, issues = _check_job(lookup, job)
    if issues or assets is None:
        raise InvalidRequestError(issues)
    teachers = tuple(teacher for teacher in assets.teachers if teacher is not None)
    start = assets.model or assets.init or earlier_student(session, spec, caller)
    resolved = resolve_job(spec, assets.dataset, teachers, assets.model, start)
    if issues := derivation_issues(session, resolved, assets.init, caller):
        raise InvalidRequestError(issues)
    return ValidatedJob(
        resolved,
        assets.dataset,
        teachers,
        [
            *job_warnings(spec, assets.dataset),
            *model_warnings(resolved, assets.dataset, teachers, start),
        ],
        find_incompatibilities(teacher_student_pair(job, assets)),
    )


def _check_job(lookup: "_AssetLookup", job: Job) -> tuple[JobAssets | None, list[ValidationIssue]]:
    """The job's assets, if it has a usable data set, and the issues of the job and its assets."""
    spec, student = job.spec, job.spec.student
    init = student.init if student is not None and student.init not in BUILT_IN_INITS else None
    dataset = lookup.ready_row(Dataset, job, "/dataset", spec.dataset)
    teachers = tuple(
        _model_facts(
            lookup.ready_row(
                Model, job, f"/teachers/{job.index('/teachers', position)}/model", teacher.model
            )
        )
        for position, teacher in enumerate(spec.teachers)
    )
    init_facts = _model_facts(lookup.ready_row(Model, job, "/student/init", init))
    model_facts = _model_facts(lookup.ready_row(Model, job, "/model", spec.model))
    if dataset is None:
        return None, [*validate(job), *lookup.issues]
    assets = JobAssets(_dataset_facts(dataset), teachers, init_facts, model_facts)
    return assets, [
        *validate(job, assets),
        *lookup.issues,
        *continuation_issues(lookup.session, job, assets.dataset, lookup.caller),
    ]


class _AssetLookup:
    """Finds rows that are ready to use, and collects an issue for each that is not."""

    def __init__(self, session: Session, caller: Principal) -> None:
        self.session = session
        self.caller = caller
        self.issues: list[ValidationIssue] = []

    def ready_row(
        self, table: type[Asset], job: Job, pointer: str, row_id: str | None
    ) -> Asset | None:
        """The row that the field at ``pointer`` names; None where it is not usable."""
        if row_id is None or not job.is_intact(pointer):
            return None
        noun = "data set" if table is Dataset else "model"
        row = scoping.get_or_none(self.session, table, row_id, self.caller, lock="share")
        if row is None:
            prefix = "ds_" if table is Dataset else "mdl_"
            form = "" if row_id.startswith(prefix) else f"; an id begins with `{prefix}`"
            self._add(pointer, "not_found", f"there is no such {noun}{form}")
            return None
        if row.state != "ready":
            reason = f": {row.error['message']}" if row.error else ""
            self._add(pointer, "not_ready", f"this {noun} is {row.state}, not ready{reason}")
            return None
        return row

    def _add(self, pointer: str, code: str, detail: str) -> None:
        self.issues.append(ValidationIssue(pointer=pointer, code=code, detail=detail))


def _dataset_facts(dataset: Dataset) -> DatasetFacts:
    info = dataset.info or {}
    return DatasetFacts(
        source=dataset.source,
        num_classes=len(info["classes"]),
        in_channels=info["in_channels"],
        image_size=info["image_size"],
        num_train=info["splits"]["train"]["count"],
        num_unlabeled=(info["splits"].get("unlabeled") or {}).get("count", 0),
        classes=tuple(info["classes"]),
    )


def _model_facts(model: Model | None) -> ModelFacts | None:
    if model is None:
        return None
    return ModelFacts(
        architecture=model.architecture,
        num_classes=model.num_classes,
        in_channels=model.in_channels or 3,
        class_names=tuple(model.class_names) if model.class_names else None,
        assumed_input_size=None if model.input_size_declared else model.input_size,
        outputs=model.outputs,
    )


class JobBodyRoute(V1Route):
    """A route whose body is a job: issues of fields come with the issues of all intact fields."""

    @override
    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        job = parse_partially(JobSpec, body)
        return [] if job is None else _check_job(_AssetLookup(session, caller), job)[1]
