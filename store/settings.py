"""Every setting of the servers in one place, with the reason for its default beside it."""

import functools
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the environment as ``STILLHOUSE_<NAME>``; only the first three have no default."""

    model_config = SettingsConfigDict(env_prefix="STILLHOUSE_", extra="ignore")

    database_url: SecretStr
    """SQLAlchemy address of Postgres, ``postgresql+psycopg://…``."""
    broker_url: SecretStr
    """Celery's address of Redis or Valkey."""
    secret_key: SecretStr = Field(min_length=32)
    """Signs page cursors and encrypts the responses that are stored for an ``Idempotency-Key``.

    No default: with a known key, anybody could forge cursors, and read the API keys in those
    responses from a copy of the database.
    """
    object_store: str = "file:///var/lib/stillhouse/objects"
    """``file:///folder`` or ``s3://bucket/prefix`` (credentials from the usual AWS variables)."""
    work_dir: Path = Path("/var/lib/stillhouse/work")
    """Scratch and cache: content-addressed files, one folder a run, one a prediction."""

    database_pool: int = 10
    """Connections a process keeps: the embedded Postgres has 100, and there are few processes."""
    statement_timeout_s: float = 5.0
    """No query of ours takes a second; one that does must not hold its connection for ever."""
    database_timeout_s: float = 7.0
    """A database that is frozen cannot end a statement by itself: then the client does."""
    object_timeout_s: float = 8.0
    """Of one request to the object store, of 16 MiB at most: two megabytes a second."""
    object_retry_timeout_s: float = 20.0
    """Until when a request to the object store is begun again: in all less than a lease."""
    storage_retries: int = 30
    """Runs in a row that could not fetch what they need; then the job fails and may be retried."""
    min_free_bytes: int = 256 * 2**20
    """A worker with less room in its work folder takes no job."""

    heartbeat_s: float = 5.0
    """A sixth of the lease: five beats may be lost before the job is."""
    lease_s: float = 30.0
    """How long a silent worker keeps its job: longer than any pause of a healthy process."""
    maintenance_interval_s: float = 5.0
    """Bounds how late a lost message or an expired lease is noticed."""
    reminder_interval_s: float = 15.0
    """A job queued for longer gets another message: the first may be lost."""
    stall_s: float = 600.0
    """An engine without a sign of life for longer is ended, unless its own pauses were as long."""
    stop_grace_s: float = 15.0
    """From SIGTERM to SIGKILL of the engine: many times the longest batch plus a checkpoint."""
    max_lost_runs: int = 5
    """Lost runs since the last new checkpoint: a job that kills its worker must end some day."""
    max_queued: int = 20_000
    """Waiting jobs of one project: a loop that posts for ever must end some day."""
    max_crashes: int = 1
    """An uncaught exception of the engine is retried once: it is rarely chance."""
    max_checkpoints: int = 2
    """The newest may be damaged; the one before is then still there."""
    storage_retry_delay_s: float = 10.0
    """Until a job whose data could not be fetched is taken again: others come first meanwhile."""
    prepare_wall_s: float = 3600.0
    """An ingestion or verification that takes longer is ended: others wait behind it."""
    poll_s: float = 0.5
    """How often the supervisor reads the engine's events: well below what a watcher notices."""

    prepare_memory_bytes: int = 12 * 2**30
    """Address space of the process that opens uploads; torch alone maps several GiB."""
    prepare_cpu_s: int = 1800
    """CPU seconds that opening an upload may take."""
    max_file_bytes: int = 64 * 2**30
    """Largest file the engine may write, and so the largest decoded data set."""
    torchvision_root: Path | None = None
    """A worker's folder with the files of torchvision's data sets, which it need not download."""
    downloads: bool = True
    """Whether a worker fetches weights that torchvision and timm publish, for models and students
    that ask for them; off, such jobs fail and say so. They are kept in ``work_dir/published``."""
    prewarm_engine: bool = True
    """Keep a process with torch loaded for each training slot, of some 300 MB: a job then begins
    seconds sooner."""
    engine_threads: int | None = None
    """Threads of one training; null shares the machine's cores among its training slots."""
    training_slots: int = 1
    """Training slots on this machine: how many trainings share its cores."""

    request_timeout_s: float = 45.0
    """From the last byte of a request to its answer, whatever it waits for: longer than each wait
    by itself, for where many requests wait for one thread after the other."""
    max_body_bytes: int = 1024 * 1024
    """Of a JSON body. Uploads are streamed and have their own limit."""
    max_predict_bytes: int = 16 * 2**20
    """Of the images of one prediction: sixteen photographs, and small enough to hold in memory."""
    predict_slots: int = 2
    """Predictions at work at once in one API process: each takes a core."""
    predict_max_pending: int = 16
    """Predictions in flight in one API process, each with its images in memory."""
    predict_queue_timeout_s: float = 5.0
    """How long a prediction waits for its turn: a person does not wait longer for an answer."""
    predict_prepare_timeout_s: float = 20.0
    """How long the first one waits for a worker to make the model ready: that takes some 5 s."""
    predict_wall_s: float = 10.0
    predict_cpu_s: int = 8
    """Of one prediction's process: less than the wall, so that it can say by itself what it was."""
    predict_memory_bytes: int = 4 * 2**30
    """Address space of that process: a network of a gigabyte is in memory twice."""
    onnx_cache_bytes: int = 2 * 2**30
    """ONNX files that an API keeps in ``work_dir/onnx``; the least recently used go."""
    teacher_cache_bytes: int = 50 * 2**30
    """Teachers' kept answers of one project in the object store; the least recently used go."""
    teacher_cache_prefetch_bytes: int = 64 * 2**20
    """Teacher outputs that are downloaded before a run starts; the rest follows while it trains."""
    max_upload_bytes: int = 64 * 2**30
    upload_part_bytes: int = 64 * 2**20
    """Small enough to send again after a broken connection, large enough to be few."""
    upload_expiry_s: float = 24 * 3600
    orphan_grace_s: float = 24 * 3600
    """An object without a row is deleted only after this: its row may be on its way, or the
    database may have been restored from a copy that is older than the object."""
    idempotency_s: float = 24 * 3600
    session_s: float = 7 * 24 * 3600
    """How long a dashboard login lasts."""
    login_code_s: float = 3600
    """How long the printed dashboard address may wait for its one use."""

    @model_validator(mode="after")
    def _check_timeouts(self) -> Self:
        if self.database_timeout_s <= self.statement_timeout_s:
            raise ValueError(
                "database_timeout_s must be longer than statement_timeout_s: it is the client's"
            )
        return self


@functools.cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
