"""The durable log of a job: events have numbers without gaps, so that no reader misses one.

The number is raised on the job's locked row, so events of one job become visible in order. A shared
sequence does not guarantee that.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import Job, JobEvent

CHANNEL = "events"  # notified with the job's id at each commit that wrote events


def append(session: Session, job: Job, event_type: str, data: dict[str, Any]) -> None:
    """Append an event to a job whose row this transaction has locked."""
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
    # One notification for each transaction is enough.
    notified_job_ids: set[str] = session.info.setdefault(CHANNEL, set())
    if job.id not in notified_job_ids:
        notified_job_ids.add(job.id)
        session.execute(select(func.pg_notify(CHANNEL, job.id)))


def list_after(
    session: Session, job_id: str, seq: int, limit: int, types: Sequence[str] = ()
) -> list[JobEvent]:
    """Up to ``limit`` events after number ``seq``, in order; with ``types``, only of those."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    if types:
        query = query.where(JobEvent.type.in_(types))
    return list(session.scalars(query.order_by(JobEvent.seq).limit(limit)))


def list_logs(session: Session, job_id: str, limit: int) -> list[JobEvent]:
    """The last ``limit`` log lines and errors, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.type.in_(("log", "error")))
    return list(reversed(session.scalars(query.order_by(JobEvent.seq.desc()).limit(limit)).all()))
