"""The outbox: messages to workers, written in the transaction of the rows that they are about.

A message contains no job; it makes a worker check the queue. Postgres stores the state: nothing
changes if every message is lost, or if each arrives five times.
"""

from collections import Counter
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from store.settings import settings
from store.tables import Job, OutboxMessage

CHANNEL = "outbox"  # notified at each commit that wrote a message


def notify(session: Session, queue: str) -> None:
    """Ask the workers of the queue to look for a job, after this transaction has committed."""
    session.add(OutboxMessage(queue=queue))
    session.execute(select(func.pg_notify(CHANNEL, queue)))


def remind(session: Session) -> None:
    """Write another message for each queue where a job has been queued for long."""
    old = func.clock_timestamp() - timedelta(seconds=settings().reminder_interval_s)
    for queue in session.scalars(
        select(Job.queue)
        .where(Job.state == "queued", Job.desired_state == "run", Job.queued_at < old)
        .distinct()
    ):
        # Without pg_notify: maintenance, which calls this, would wake itself without end.
        session.add(OutboxMessage(queue=queue))


def take_messages(session: Session, limit: int = 500) -> Counter[str]:
    """Delete messages and count them by queue; a rollback puts them back."""
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
