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
from store.tables import Job, OutboxMessage, ProjectTurn, Worker
from store.tables.jobs import LIVE_STATES

CHANNEL = "outbox"  # notified at each commit that wrote a message


def notify(session: Session, queue: str) -> None:
    """Ask that some worker of the queue looks for a job, once this transaction has committed."""
    session.add(OutboxMessage(queue=queue))
    session.execute(select(func.pg_notify(CHANNEL, queue)))


def remind(session: Session) -> None:
    """Send another message to the queues where a job has been queued for long."""
    old = func.clock_timestamp() - timedelta(seconds=settings().reminder_interval_s)
    for queue in session.scalars(
        select(Job.queue)
        .where(Job.state == "queued", Job.desired_state == "run", Job.queued_at < old)
        .distinct()
    ):
        # Nobody is notified: the keeper, who does this, would wake itself without end.
        session.add(OutboxMessage(queue=queue))


def take_messages(session: Session, limit: int = 500) -> Counter[str]:
    """Take messages out of the outbox; they come back if the transaction does not commit."""
    message_ids = (
        select(OutboxMessage.id)
        .order_by(OutboxMessage.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    queues = session.scalars(
        delete(OutboxMessage)
        .where(OutboxMessage.id.in_(message_ids))
        .returning(OutboxMessage.queue)
    )
    return Counter(queues)


class QueueStatus:
    """Why queued jobs wait: asked once of the database for all jobs of an answer.

    ``only`` is the id of the one job that will be asked about.
    """

    def __init__(self, session: Session, job_id: str | None = None) -> None:
        self._session = session
        self._job_id = job_id
        self._positions: dict[tuple[str, str], dict[str, int]] = {}
        self._worker_counts: dict[str, int] = {}

    def jobs_ahead(self, job: Job) -> int:
        """How many queued jobs of the queue would be claimed before this one, as things are."""
        queue_and_project = (job.queue, job.project_id)
        if queue_and_project not in self._positions:
            rows = self._session.execute(_queue_positions(*queue_and_project, self._job_id))
            self._positions[queue_and_project] = {row[0]: row[1] for row in rows}
        return self._positions[queue_and_project].get(job.id, 0)

    def count_workers(self, queue: str) -> int:
        """Workers of the queue that are alive."""
        if queue not in self._worker_counts:
            self._worker_counts[queue] = count_live_workers(self._session, queue)
        return self._worker_counts[queue]


def count_queued(session: Session, project_id: str, queue: str) -> int:
    """How many jobs of a project wait in a queue."""
    waits = (Job.state == "queued", Job.queue == queue, Job.project_id == project_id)
    return session.scalar(select(func.count()).where(*waits)) or 0


def _queue_positions(queue: str, project_id: str, job_id: str | None) -> Select[str, int]:
    """Places of a project's queued jobs: the n-th job of each project comes in the n-th round."""
    active_counts = (
        select(Job.project_id, func.count().label("held"))
        .where(Job.queue == queue, Job.state.in_(LIVE_STATES))
        .group_by(Job.project_id)
        .subquery()
    )
    project_rank = func.row_number().over(
        partition_by=Job.project_id, order_by=(Job.priority.desc(), Job.created_at)
    )
    rounds = (
        select(
            *(
                Job.id,
                Job.project_id,
                ProjectTurn.last_claimed_at,
                project_rank.label("project_rank"),
            ),
            (project_rank + func.coalesce(active_counts.c.held, 0)).label("round"),
        )
        .outerjoin(active_counts, active_counts.c.project_id == Job.project_id)
        .outerjoin(
            ProjectTurn, (ProjectTurn.project_id == Job.project_id) & (ProjectTurn.queue == queue)
        )
        .where(
            *(Job.state == "queued", Job.desired_state == "run", Job.queue == queue),
            Job.not_before.is_(None),  # else it is not its turn, whoever is behind it
        )
        .subquery()
    )
    # In one round, who has taken fewer turns until then has waited longer.
    tie_break = (
        rounds.c.project_rank,
        rounds.c.last_claimed_at.asc().nulls_first(),
        rounds.c.project_id,
    )
    order = (rounds.c.round, *tie_break)
    position = (func.row_number().over(order_by=order) - 1).label("position")
    positions = select(rounds.c.id, rounds.c.project_id, position).subquery()
    query = select(positions.c.id, positions.c.position).where(positions.c.project_id == project_id)
    return query if job_id is None else query.where(positions.c.id == job_id)


def count_live_workers(session: Session, queue: str) -> int:
    """Workers of the queue that were heard of within a lease."""
    query = select(func.count()).where(Worker.queue == queue, Worker.seen_at > liveness_cutoff())
    return session.scalar(query) or 0


def liveness_cutoff() -> Any:
    """A worker that was last heard of before this moment is taken for dead."""
    return func.clock_timestamp() - timedelta(seconds=settings().lease_s)
