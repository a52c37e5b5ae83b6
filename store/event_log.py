"""The durable log of a job: numbered by the job itself, so that no reader can miss one.

The number is raised on the job's locked row; events of one job therefore become visible in order,
which a shared sequence does not promise.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import Job, JobEvent

CHANNEL = "events"  # notified with the job's id at each commit that wrote events


def append(session: Session, job: Job, event_type: str, data: dict[str, Any]) -> None:
    """Add an event to a job whose row this transaction holds."""
    job.event_seq += 1
    session.add(
        JobEvent(
            job_id=job.id,
            seq=job.event_seq,
            project_id=job.project_id,
            run=job.num_runs or None,
            type=event_type,
            data=data,
        )
    )
    # Once in a transaction is enough, and a statement of its own for each event is not free.
    notified_job_ids: set[str] = session.info.setdefault(CHANNEL, set())
    if job.id not in notified_job_ids:
        notified_job_ids.add(job.id)
        session.execute(select(func.pg_notify(CHANNEL, job.id)))


def list_after(
    session: Session, job_id: str, seq: int, limit: int, types: Sequence[str] = ()
) -> list[JobEvent]:
    """Up to ``limit`` events that follow number ``seq``, in order; of some types alone if asked."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    if types:
        query = query.where(JobEvent.type.in_(types))
    return list(session.scalars(query.order_by(JobEvent.seq).limit(limit)))


def list_logs(session: Session, job_id: str, limit: int) -> list[JobEvent]:
    """The last ``limit`` lines for people, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.type.in_(("log", "error")))
    return list(reversed(session.scalars(query.order_by(JobEvent.seq.desc()).limit(limit)).all()))
