"""Whether a job can go on from an earlier one: is it there, is it done, is it the same network."""

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from api.http import scoping
from kdcore.schema.exports import STUDENT
from kdcore.schema.job import ResolvedJob, ResolvedStudent, channels_of
from kdcore.schema.validation.errors import Fault
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts, References
from store import jobs
from store.access.credentials import Principal
from store.tables import Artifact, Checkpoint, Dataset, Job

_JOB, _CHECKPOINT = "/from/job", "/from/checkpoint"


def earlier_faults(
    session: Session, asked: References, dataset: DatasetFacts, caller: Principal
) -> list[Fault]:
    """What is wrong with the earlier job and the checkpoint of it that a request names."""
    if asked.continued is None:
        return []
    job = scoping.find(session, Job, asked.continued, caller, hold="kept")
    if job is None or job.kind != "distill":
        return [Fault(pointer=_JOB, code="not_found", detail="there is no such job")]
    student = earlier_student(job)
    faults = [*_network_faults(asked, student), *_data_faults(session, job, asked, dataset)]
    if asked.checkpoint != "best" and job.state not in jobs.TERMINAL:
        # Its checkpoints come and go: the next run of this job would start from another one.
        detail = f"the job is {job.state}: wait for its end, or cancel it, to go on from a step"
        faults.append(Fault(pointer=_JOB, code="not_ready", detail=detail))
    elif not _has(session, job, asked.checkpoint):
        faults.append(_no_checkpoint(session, job, asked.checkpoint))
    return faults


def derivation_faults(
    session: Session, resolved: ResolvedJob, init: ModelFacts | None, caller: Principal
) -> list[Fault]:
    """What only the resolved job shows: a network that is derived in another way."""
    own = resolved.student.network
    if init is not None and init.architecture != own:
        detail = f"the model is {init.architecture}, the student would be {own}; name a model of it"
        return [Fault(pointer="/student/init", code="init_mismatch", detail=detail)]
    if resolved.from_ is None:
        return []
    job = scoping.find(session, Job, resolved.from_.job, caller)
    wanted = earlier_student(job).network if job else resolved.student.network
    if resolved.student.network == wanted:
        return []
    detail = (
        f"the earlier job's student is {wanted}, this one would be {resolved.student.network}; "
        "derive it in the same way from a teacher of the same architecture"
    )
    return [Fault(pointer="/student", code="init_mismatch", detail=detail)]


def earlier_student(job: Job) -> ResolvedStudent:
    """The network that a job has trained."""
    return ResolvedStudent.model_validate(job.resolved["student"])


def continued_by(job_id: str) -> ColumnElement[bool]:
    """Unfinished jobs that go on from this one."""
    goes_on = Job.spec["from"]["job"].astext == job_id
    return and_(goes_on, Job.state.not_in(jobs.TERMINAL))


def _network_faults(asked: References, student: ResolvedStudent) -> list[Fault]:
    if asked.derive or asked.architecture is None:
        return []
    if student.derive:
        detail = f"the earlier job's student is {student.network}, which is derived; derive it too"
        return [Fault(pointer="/student/architecture", code="init_mismatch", detail=detail)]
    if asked.architecture == student.architecture:
        return []
    fix = {"op": "replace", "path": "/student/architecture", "value": student.architecture}
    return [
        Fault(
            pointer="/student/architecture",
            code="init_mismatch",
            detail=f"the earlier job's student is {student.architecture}; name the same",
            fix=[fix],
        )
    ]


def _data_faults(
    session: Session, job: Job, asked: References, dataset: DatasetFacts
) -> list[Fault]:
    earlier = session.get_one(Dataset, job.dataset_id).info or {}
    then = (
        len(earlier["classes"]),
        channels_of(earlier_student(job).channels, earlier["in_channels"]),
    )
    now = (dataset.num_classes, channels_of(asked.student_channels, dataset.in_channels))
    if then == now:
        return []
    detail = (
        f"the earlier job's student has {then[0]} classes and {then[1]} channels, this one would "
        f"have {now[0]} and {now[1]}"
    )
    return [Fault(pointer=_JOB, code="init_mismatch", detail=detail)]


def _no_checkpoint(session: Session, job: Job, checkpoint: str) -> Fault:
    kept = session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job.id)).all()
    steps = ", ".join(map(str, sorted(kept))) or "none"
    return Fault(
        pointer=_CHECKPOINT if checkpoint != "best" else _JOB,
        code="not_found",
        detail=f"the job is {job.state} and has no such checkpoint; steps that are kept: {steps}",
    )


def _has(session: Session, job: Job, checkpoint: str) -> bool:
    if checkpoint == "best":
        query = select(Artifact.id).where(Artifact.job_id == job.id, Artifact.name == STUDENT)
        return session.scalars(query.limit(1)).first() is not None
    kept = select(Checkpoint.id).where(Checkpoint.job_id == job.id)
    if checkpoint != "last":
        if not (checkpoint.isascii() and checkpoint.isdecimal()) or len(checkpoint) > 18:
            return False
        kept = kept.where(Checkpoint.step == int(checkpoint))
    return session.scalars(kept.limit(1)).first() is not None
