"""Create, validate, change and delete jobs."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http import scoping
from api.http.idempotency import CreatedResource
from api.http.problems import ConflictError, InvalidRequestError, ProblemError
from api.jobs.continuation import continues_from
from api.jobs.estimate import estimate_job
from api.jobs.schemas import JobUpdate
from api.jobs.serializers import serialize_job, serialize_method_compatibility
from api.jobs.validation import validate_job
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.job_kinds import JOB_KINDS, JobKind
from kdcore.schema.validation.errors import ValidationIssue
from store import event_log, jobs
from store.access.credentials import Principal
from store.ids import new_id
from store.jobs import queue_position
from store.settings import settings
from store.tables import Job


def validation_result(
    session: Session, body: JobSpec, caller: Principal, kind: str | None = None
) -> dict[str, Any]:
    """The body of a ``JobValidation``: what :func:`create_job_row` would store, and an estimate.

    It raises the same errors and stores nothing.
    """
    validated_job = validate_job(session, body, caller)
    _require_cacheable(validated_job.resolved, JOB_KINDS[kind or body.kind])
    return {
        "resolved": validated_job.resolved.model_dump(mode="json"),
        "estimate": estimate_job(session, caller.project_id, validated_job),
        "warnings": validated_job.warnings,
        "methods": serialize_method_compatibility(validated_job.incompatibilities),
    }


def create_job_row(
    session: Session, body: JobSpec, caller: Principal, kind: str | None = None
) -> CreatedResource:
    """Store a queued job, of the kind ``kind`` where that is not None.

    Raises:
        InvalidRequestError: the job is invalid.
        ProblemError: 429 if the project has too many queued jobs.
    """
    resolved = validate_job(session, body, caller).resolved
    job_kind = JOB_KINDS[kind or body.kind]
    _require_cacheable(resolved, job_kind)
    require_queue_capacity(session, caller, settings().max_queued)
    init = [] if resolved.student.init in ("random", "pretrained") else [resolved.student.init]
    row = jobs.create(
        session,
        Job(
            id=new_id("job"),
            project_id=caller.project_id,
            kind=job_kind.name,
            queue=job_kind.queue,
            name=resolved.name,
            labels=dict(body.labels),
            priority=body.priority,
            spec=body.model_dump(mode="json"),
            resolved=resolved.model_dump(mode="json"),
            dataset_id=body.dataset,
            model_ids=[*(teacher.model for teacher in body.teachers), *init],
            architecture=resolved.student.architecture,
            methods=[method.type for method in resolved.method],
            summary={},
        ),
    )
    session.flush()
    session.refresh(row)
    return CreatedResource(serialize_job(session, row), f"/v1/jobs/{row.id}")


def update_job_row(session: Session, row: Job, body: JobUpdate) -> None:
    """Apply the fields of ``body`` that are not null, and append an event with them."""
    updates = body.model_dump(mode="json", exclude_none=True, exclude={"limits"})
    for name, value in updates.items():
        setattr(row, name, value)
    if body.limits is not None:
        new_limits = body.limits.model_dump(mode="json", exclude_unset=True)
        updates["limits"] = (row.resolved.get("limits") or {}) | new_limits
    row.spec = {**row.spec, **updates}
    row.resolved = {**row.resolved, **updates}
    row.rev += 1
    event_log.append(session, row, "changed", updates)
    session.flush()


def delete_job_row(session: Session, row: Job) -> None:
    """Delete a job that has ended.

    Raises:
        ConflictError: an unfinished job continues from it.
        IllegalTransitionError: the job has not ended.
    """
    dependent_id = session.scalar(select(Job.id).where(continues_from(row.id)).limit(1))
    if dependent_id is not None:
        detail = f"{dependent_id} continues from the job: cancel it, or wait until it has ended"
        raise ConflictError("in_use", detail, current_state=row.state)
    jobs.delete(session, row)


def _require_cacheable(resolved: ResolvedJob, kind: JobKind) -> None:
    if kind.fills_teacher_cache and (issues := list(_cache_issues(resolved))):
        raise InvalidRequestError(issues)


def _cache_issues(job: ResolvedJob) -> Iterator[ValidationIssue]:
    """Why the outputs of the job's teachers cannot be cached."""
    if job.training.views == "fresh":
        detail = "set training.views to a number: outputs for fresh views cannot be cached"
        yield ValidationIssue(pointer="/training/views", code="fresh_views", detail=detail)
    if not job.teachers:
        detail = "`warm` needs at least one teacher"
        yield ValidationIssue(pointer="/teachers", code="teacher_required", detail=detail)


def require_queue_capacity(session: Session, caller: Principal, max_queued: int) -> None:
    """Raise a 429 if the project already has ``max_queued`` queued jobs."""
    if queue_position.count_queued(session, caller.project_id, scoping.TRAIN_QUEUE) >= max_queued:
        detail = f"the project already has {max_queued} queued jobs; retry when some have started"
        raise ProblemError(429, "queue_full", detail, headers={"Retry-After": "30"})
