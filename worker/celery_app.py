"""The Celery application. A message carries no job; it only says "look" to a queue.

Messages are acknowledged early and results are not kept, because state lives in Postgres: late
acknowledgement on Redis runs a job again after the visibility timeout, however healthy it is.
"""

from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_process_init, worker_ready, worker_shutting_down
from kombu.entity import Queue

from store import database, logs
from store.settings import settings
from worker import heartbeat, loop, shutdown
from worker.engine import engine_process
from worker.files import workdirs

QUEUES = ("train", "prepare")
MESSAGE_TTL_S = 600  # while all workers are busy, reminders must not pile up for days
BROKER_TIMEOUT_S = 5  # a dead or hung broker must not hold up anybody for longer

app = Celery("stillhouse", broker=settings().broker_url.get_secret_value())
app.conf.update(
    task_ignore_result=True,
    result_backend=None,
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    # A prefetched message that waits behind a training would be delivered again to another worker.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="train",
    task_queues=[Queue(queue_name) for queue_name in QUEUES],  # type: ignore[no-untyped-call]
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


@app.task(name="poke")  # type: ignore[untyped-decorator]
def run_queued_jobs(queue: str) -> None:
    """Look for jobs of the queue, and work until there are none or this worker shuts down."""
    loop.run_jobs(queue)


def send_notification(queue: str) -> None:
    """Send one message; raises kombu's OperationalError when the broker is away."""
    app.send_task("poke", args=[queue], queue=queue, retry=False, expires=MESSAGE_TTL_S)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _configure_logging(**_: Any) -> None:
    logs.configure()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _initialize_pool_process(**_: Any) -> None:
    # A forked process must not use the connections of its parent.
    database.engine.cache_clear()
    if app.amqp.queues.consume_from.keys() == {"train"}:
        engine_process.prewarm_engine()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _on_worker_ready(sender: Any, **_: Any) -> None:
    queue_names = [queue.name for queue in sender.task_consumer.queues]
    heartbeat.start_heartbeat(sender.hostname, queue_names[0])
    workdirs.delete_stale_folders()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_worker_shutdown(**_: Any) -> None:
    shutdown.request_shutdown()
