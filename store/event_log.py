"""The durable log of a job: numbered by the job itself, so that no reader can miss one.

The number is raised on the job's locked row; events of one job therefore become visible in order,
which a shared sequence does not promise.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import Event, Job

CHANNEL = "events"  # notified with the job's id at each commit that wrote events


def append(session: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
    """Add an event to a job whose row this transaction holds."""
    job.event_seq += 1
    session.add(
        Event(
            job_id=job.id,
            seq=job.event_seq,
            project_id=job.project_id,
            run=job.num_runs or None,
            type=kind,
            data=data,
        )
    )
    # Once in a transaction is enough, and a statement of its own for each event is not free.
    told: set[str] = session.info.setdefault(CHANNEL, set())
    if job.id not in told:
        told.add(job.id)
        session.execute(select(func.pg_notify(CHANNEL, job.id)))


def after(
    session: Session, job_id: str, seq: int, limit: int, types: Sequence[str] = ()
) -> list[Event]:
    """Up to ``limit`` events that follow number ``seq``, in order; of some types alone if asked."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > seq)
    if types:
        query = query.where(Event.type.in_(types))
    return list(session.scalars(query.order_by(Event.seq).limit(limit)))


def logs(session: Session, job_id: str, limit: int) -> list[Event]:
    """The last ``limit`` lines for people, in order."""
    query = select(Event).where(Event.job_id == job_id, Event.type.in_(("log", "error")))
    return list(reversed(session.scalars(query.order_by(Event.seq.desc()).limit(limit)).all()))
