"""Whether a job can go on from an earlier one: is it there, is it done, is it the same network."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api import owned
from kdcore.spec.faults import Fault
from kdcore.spec.references import References
from store.accounts import Principal
from store.tables import Artifact, Checkpoint, Job

_JOB, _CHECKPOINT = "/from/job", "/from/checkpoint"
STUDENT = "student.safetensors"


def earlier_faults(session: Session, asked: References, caller: Principal) -> list[Fault]:
    """What is wrong with the earlier job and the checkpoint of it that a request names."""
    if asked.continued is None:
        return []
    job = owned.find(session, Job, asked.continued, caller, hold="kept")
    if job is None or job.kind != "distill":
        return [Fault(pointer=_JOB, code="not_found", detail="there is no such job")]
    faults = _network_faults(asked, job.resolved["student"])
    if not _has(session, job, asked.checkpoint):
        kept = session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job.id)).all()
        steps = ", ".join(map(str, sorted(kept))) or "none"
        faults.append(
            Fault(
                pointer=_CHECKPOINT if asked.checkpoint != "best" else _JOB,
                code="not_found",
                detail=f"the job is {job.state} and has no such checkpoint; "
                f"steps that are kept: {steps}",
            )
        )
    return faults


def _network_faults(asked: References, student: dict[str, Any]) -> list[Fault]:
    if asked.derive or asked.architecture in (None, student["architecture"]):
        return []
    fix = [{"op": "replace", "path": "/student/architecture", "value": student["architecture"]}]
    return [
        Fault(
            pointer="/student/architecture",
            code="init_mismatch",
            detail=f"the earlier job's student is {student['architecture']}; name the same",
            fix=fix,
        )
    ]


def _has(session: Session, job: Job, checkpoint: str) -> bool:
    if checkpoint == "best":
        query = select(Artifact.id).where(Artifact.job_id == job.id, Artifact.name == STUDENT)
        return session.scalars(query.limit(1)).first() is not None
    kept = select(Checkpoint.id).where(Checkpoint.job_id == job.id)
    if checkpoint != "last":
        if not checkpoint.isdecimal() or len(checkpoint) > 18:
            return False
        kept = kept.where(Checkpoint.step == int(checkpoint))
    return session.scalars(kept.limit(1)).first() is not None
