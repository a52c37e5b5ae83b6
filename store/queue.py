"""The outbox: messages that only say "look", written with the rows they are about.

Postgres is the truth and the message is a hint: losing every message, or getting each five times,
changes nothing.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from store.settings import settings
from store.tables import Job, Poke, Worker

CHANNEL = "outbox"  # notified at each commit that wrote a message


def poke(session: Session, lane: str) -> None:
    """Ask that some worker of the lane looks for a job, once this transaction has committed."""
    session.add(Poke(lane=lane))
    session.execute(select(func.pg_notify(CHANNEL, lane)))


def repoke(session: Session) -> None:
    """Send another message to the lanes where a job has been queued for long."""
    old = func.clock_timestamp() - timedelta(seconds=settings().repoke_s)
    for lane in session.scalars(
        select(Job.lane)
        .where(Job.state == "queued", Job.desired_state == "run", Job.queued_at < old)
        .distinct()
    ):
        # Nobody is notified: the keeper, who does this, would wake itself without end.
        session.add(Poke(lane=lane))


def take(session: Session, limit: int = 500) -> Counter[str]:
    """Take messages out of the outbox; they come back if the transaction does not commit."""
    chosen = select(Poke.id).order_by(Poke.id).limit(limit).with_for_update(skip_locked=True)
    lanes = session.scalars(delete(Poke).where(Poke.id.in_(chosen)).returning(Poke.lane))
    return Counter(lanes)


class Waiting:
    """Why queued jobs wait: asked once of the database for all jobs of an answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._places: dict[str, dict[str, int]] = {}
        self._alive: dict[str, int] = {}

    def ahead(self, job: Job) -> int:
        """How many queued jobs of the lane would be claimed before this one."""
        if job.lane not in self._places:
            order = (Job.priority.desc(), Job.created_at)
            query = select(Job.id, func.row_number().over(order_by=order) - 1).where(
                Job.state == "queued", Job.desired_state == "run", Job.lane == job.lane
            )
            self._places[job.lane] = {row[0]: row[1] for row in self._session.execute(query)}
        return self._places[job.lane].get(job.id, 0)

    def workers(self, lane: str) -> int:
        """Workers of the lane that are alive."""
        if lane not in self._alive:
            self._alive[lane] = workers_alive(self._session, lane)
        return self._alive[lane]


def workers_alive(session: Session, lane: str) -> int:
    """Workers of the lane that were heard of within a lease."""
    query = select(func.count()).where(Worker.lane == lane, Worker.seen_at > alive_since())
    return session.scalar(query) or 0


def alive_since() -> Any:
    """A worker that was last heard of before this moment is taken for dead."""
    return func.clock_timestamp() - timedelta(seconds=settings().lease_s)
