"""Validate `from`: a job continues from a checkpoint of an earlier job with the same network."""

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from api.http import scoping
from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.job import JobSpec, ResolvedJob, ResolvedStudent, network_channels
from kdcore.schema.job_kinds import JOB_KINDS
from kdcore.schema.validation.compatibility import has_classes
from kdcore.schema.validation.cross_field import Job as JobRequest
from kdcore.schema.validation.errors import ValidationIssue
from store import jobs
from store.access.credentials import Principal
from store.tables import Artifact, Checkpoint, Dataset, Job

_JOB, _CHECKPOINT = "/from/job", "/from/checkpoint"


def continuation_issues(
    session: Session, request: JobRequest, dataset: DatasetFacts, caller: Principal
) -> list[ValidationIssue]:
    """Issues of the earlier job and of its checkpoint."""
    start = request.spec.from_
    if start is None or not request.is_intact(_JOB):
        return []
    job = scoping.get_or_none(session, Job, start.job, caller, lock="share")
    if job is None or not JOB_KINDS[job.kind].trains:
        return [
            ValidationIssue(pointer=_JOB, code="not_found", detail="the project has no such job")
        ]
    student = trained_student(job)
    issues = [
        *_network_issues(request, student),
        *_data_issues(session, job, request, dataset),
    ]
    if not request.is_intact(_CHECKPOINT):
        return issues
    if start.checkpoint != "best" and job.state not in jobs.TERMINAL_STATES:
        # A running job replaces its checkpoints, so the same request would start elsewhere later.
        detail = f"the job is {job.state}: wait until it has ended, or cancel it"
        issues.append(ValidationIssue(pointer=_JOB, code="not_ready", detail=detail))
    elif not _has_checkpoint(session, job, start.checkpoint):
        issues.append(_checkpoint_issue(session, job, start.checkpoint))
    return issues


def derivation_issues(
    session: Session, resolved: ResolvedJob, init: ModelFacts | None, caller: Principal
) -> list[ValidationIssue]:
    """Issues that only the resolved job shows: its student is another network than the weights."""
    network = resolved.student.network
    if init is not None and init.architecture != network:
        detail = (
            f"the model is {init.architecture}, but the student is {network}: choose a model of "
            "the student's architecture"
        )
        return [ValidationIssue(pointer="/student/init", code="init_mismatch", detail=detail)]
    if resolved.from_ is None:
        return []
    job = scoping.get_or_none(session, Job, resolved.from_.job, caller)
    earlier_network = trained_student(job).network if job else resolved.student.network
    if resolved.student.network == earlier_network:
        return []
    detail = (
        f"the student of the earlier job is {earlier_network}, but this one is "
        f"{resolved.student.network}: derive it in the same way from a teacher of the same "
        "architecture"
    )
    return [ValidationIssue(pointer="/student", code="init_mismatch", detail=detail)]


def earlier_student(session: Session, spec: JobSpec, caller: Principal) -> ModelFacts | None:
    """Facts of the student that a job continues; None without an earlier job."""
    job = spec.from_ and scoping.get_or_none(session, Job, spec.from_.job, caller)
    return _student_facts(session, job) if job else None


def _student_facts(session: Session, job: Job) -> ModelFacts:
    student = trained_student(job)
    info = session.get_one(Dataset, job.dataset_id).info or {}
    return ModelFacts(
        architecture=student.network,
        num_classes=len(info["classes"]),
        in_channels=network_channels(student.channels, info["in_channels"]),
        class_names=tuple(info["classes"]),
    )


def trained_student(job: Job) -> ResolvedStudent:
    """The student of a job."""
    return ResolvedStudent.model_validate(job.resolved["student"])


def continues_from(job_id: str) -> ColumnElement[bool]:
    """A condition: the row is an unfinished job that continues from this one."""
    continues = Job.spec["from"]["job"].astext == job_id
    return and_(continues, Job.state.not_in(jobs.TERMINAL_STATES))


def _network_issues(request: JobRequest, student: ResolvedStudent) -> list[ValidationIssue]:
    requested = request.spec.student
    if requested is None or requested.derive or requested.architecture is None:
        return []
    if student.derive:
        detail = (
            f"the student of the earlier job is {student.network}: derive this one in the same way"
        )
        return [
            ValidationIssue(pointer="/student/architecture", code="init_mismatch", detail=detail)
        ]
    if requested.architecture == student.architecture:
        return []
    fix = {"op": "replace", "path": "/student/architecture", "value": student.architecture}
    return [
        ValidationIssue(
            pointer="/student/architecture",
            code="init_mismatch",
            detail=f"must be {student.architecture}, the student of the earlier job",
            fix=[fix],
        )
    ]


def _data_issues(
    session: Session, job: Job, request: JobRequest, dataset: DatasetFacts
) -> list[ValidationIssue]:
    earlier = _student_facts(session, job)
    rule = None if request.spec.student is None else request.spec.student.channels
    channels = network_channels(rule, dataset.in_channels)
    if not request.is_intact("/student/channels") or (
        has_classes(earlier, dataset) and earlier.in_channels == channels
    ):
        return []
    detail = (
        f"the student of the earlier job has {earlier.num_classes} classes and "
        f"{earlier.in_channels} channels, but this one needs {dataset.num_classes} and {channels}"
    )
    return [ValidationIssue(pointer=_JOB, code="init_mismatch", detail=detail)]


def _checkpoint_issue(session: Session, job: Job, checkpoint: str) -> ValidationIssue:
    saved_steps = session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job.id)).all()
    steps = ", ".join(map(str, sorted(saved_steps))) or "none"
    return ValidationIssue(
        pointer=_CHECKPOINT if checkpoint != "best" else _JOB,
        code="not_found",
        detail=f"the job ({job.state}) has no such checkpoint; steps of its checkpoints: {steps}",
    )


def _has_checkpoint(session: Session, job: Job, checkpoint: str) -> bool:
    if checkpoint == "best":
        query = select(Artifact.id).where(Artifact.job_id == job.id, Artifact.name == STUDENT_FILE)
        return session.scalars(query.limit(1)).first() is not None
    checkpoints = select(Checkpoint.id).where(Checkpoint.job_id == job.id)
    if checkpoint != "last":
        if not (checkpoint.isascii() and checkpoint.isdecimal()) or len(checkpoint) > 18:
            return False
        checkpoints = checkpoints.where(Checkpoint.step == int(checkpoint))
    return session.scalars(checkpoints.limit(1)).first() is not None
