"""The outbox: messages that only say "look", written with the rows they are about.

Postgres is the truth and the message is a hint: losing every message, or getting each five times,
changes nothing.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from store.settings import settings
from store.tables import Job, Poke, Turn, Worker
from store.tables.jobs import LIVE

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
    """Why queued jobs wait: asked once of the database for all jobs of an answer.

    ``only`` is the id of the one job that will be asked about.
    """

    def __init__(self, session: Session, only: str | None = None) -> None:
        self._session = session
        self._only = only
        self._places: dict[tuple[str, str], dict[str, int]] = {}
        self._alive: dict[str, int] = {}

    def ahead(self, job: Job) -> int:
        """How many queued jobs of the lane would be claimed before this one, as things are."""
        whose = (job.lane, job.project_id)
        if whose not in self._places:
            found = self._session.execute(_places(*whose, self._only))
            self._places[whose] = {row[0]: row[1] for row in found}
        return self._places[whose].get(job.id, 0)

    def workers(self, lane: str) -> int:
        """Workers of the lane that are alive."""
        if lane not in self._alive:
            self._alive[lane] = workers_alive(self._session, lane)
        return self._alive[lane]


def depth(session: Session, project_id: str, lane: str) -> int:
    """How many jobs of a project wait in a lane."""
    waits = (Job.state == "queued", Job.lane == lane, Job.project_id == project_id)
    return session.scalar(select(func.count()).where(*waits)) or 0


def _places(lane: str, project_id: str, only: str | None) -> Select[str, int]:
    """Places of a project's queued jobs: the n-th job of each project comes in the n-th round."""
    held = (
        select(Job.project_id, func.count().label("held"))
        .where(Job.lane == lane, Job.state.in_(LIVE))
        .group_by(Job.project_id)
        .subquery()
    )
    own_turn = func.row_number().over(
        partition_by=Job.project_id, order_by=(Job.priority.desc(), Job.created_at)
    )
    rounds = (
        select(
            *(Job.id, Job.project_id, Turn.taken_at, own_turn.label("own_turn")),
            (own_turn + func.coalesce(held.c.held, 0)).label("round"),
        )
        .outerjoin(held, held.c.project_id == Job.project_id)
        .outerjoin(Turn, (Turn.project_id == Job.project_id) & (Turn.lane == lane))
        .where(
            *(Job.state == "queued", Job.desired_state == "run", Job.lane == lane),
            Job.not_before.is_(None),  # else it is not its turn, whoever is behind it
        )
        .subquery()
    )
    # In one round, who has taken fewer turns until then has waited longer.
    turn = (rounds.c.own_turn, rounds.c.taken_at.asc().nulls_first(), rounds.c.project_id)
    order = (rounds.c.round, *turn)
    place = (func.row_number().over(order_by=order) - 1).label("place")
    placed = select(rounds.c.id, rounds.c.project_id, place).subquery()
    query = select(placed.c.id, placed.c.place).where(placed.c.project_id == project_id)
    return query if only is None else query.where(placed.c.id == only)


def workers_alive(session: Session, lane: str) -> int:
    """Workers of the lane that were heard of within a lease."""
    query = select(func.count()).where(Worker.lane == lane, Worker.seen_at > alive_since())
    return session.scalar(query) or 0


def alive_since() -> Any:
    """A worker that was last heard of before this moment is taken for dead."""
    return func.clock_timestamp() - timedelta(seconds=settings().lease_s)
