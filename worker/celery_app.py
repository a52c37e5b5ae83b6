"""The Celery application. A message contains no job; it makes a worker check the queue.

Messages are acknowledged early and results are not stored, because Postgres holds all state. With
late acknowledgement, Redis would deliver the message of a healthy but long run again after the
visibility timeout.
"""

import functools
from typing import Any

from celery import Celery
from celery.signals import (
    celeryd_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from kombu.entity import Queue

from store import database, logs
from store.settings import settings
from worker import heartbeat
from worker.executor import WorkerLoop
from worker.files import workdirs
from worker.shutdown import worker_shutdown

QUEUES = ("train", "prepare")
MESSAGE_TTL_S = 600  # reminders must not accumulate for days while all workers are busy
BROKER_TIMEOUT_S = 5  # a broker that hangs must not block its callers for longer

app = Celery("stillhouse", broker=settings().broker_url.get_secret_value())
app.conf.update(
    task_ignore_result=True,
    result_backend=None,
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    # A message that is prefetched behind a training would be delivered again to another worker.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="train",
    task_queues=[Queue(queue_name) for queue_name in QUEUES],
    task_create_missing_queues=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_transport_options={
        "visibility_timeout": 3600,
        "socket_timeout": BROKER_TIMEOUT_S,
        "socket_connect_timeout": BROKER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "global_keyprefix": "stillhouse:",
    },
)


@functools.cache
def worker_loop() -> WorkerLoop:
    """The loop of this pool process, created after the fork."""
    return WorkerLoop()


@app.task(name="notify")
def run_queued_jobs(queue: str) -> None:
    """Run jobs of the queue until there are none or this worker shuts down."""
    worker_loop().run_jobs(queue)


def send_notification(queue: str) -> None:
    """Send one message. Raises kombu's OperationalError when the broker is unavailable."""
    app.send_task("notify", args=[queue], queue=queue, retry=False, expires=MESSAGE_TTL_S)


@celeryd_init.connect
def _configure_logging(**_: Any) -> None:
    logs.configure()


@worker_process_init.connect
def _initialize_pool_process(**_: Any) -> None:
    # A forked process must not use the connections of its parent.
    database.engine.cache_clear()
    if app.amqp.queues.consume_from.keys() == {"train"}:
        worker_loop().pool.prewarm()


@worker_process_shutdown.connect
def _close_pool_process(**_: Any) -> None:
    worker_loop().pool.close()


@worker_ready.connect
def _on_worker_ready(sender: Any, **_: Any) -> None:
    queue_names = [queue.name for queue in sender.task_consumer.queues]
    heartbeat.start_heartbeat(sender.hostname, queue_names[0])
    workdirs.delete_stale_folders()
    workdirs.delete_ended_sources()


@worker_shutting_down.connect
def _on_worker_shutdown(**_: Any) -> None:
    worker_shutdown.request()
