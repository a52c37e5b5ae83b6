"""The relay: sends the outbox to the broker, and reminders where jobs wait for long."""

import structlog
from kombu.exceptions import OperationalError as BrokerError

from kdcore.runtime.failpoints import failpoint
from store import outbox
from store.database import transaction
from worker.celery_app import send_notification

log = structlog.get_logger()
MAX_MESSAGES = 32
"""Per queue and round: one message wakes a worker until its queue is empty."""


def remind() -> None:
    """Write another message for queues where jobs wait for long: the first may be lost."""
    with transaction() as session:
        outbox.remind(session)


def relay() -> None:
    """Send the messages of the outbox. They stay there while the broker is unavailable."""
    try:
        with transaction() as session:
            for queue_name, count in outbox.take_messages(session).items():
                failpoint("maintenance.taken")
                for _ in range(min(count, MAX_MESSAGES)):
                    send_notification(queue_name)
                failpoint("maintenance.sent")
    except BrokerError as error:
        log.warning("broker_unavailable", error=str(error))
