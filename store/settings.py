"""Settings: every setting of the servers, with the reason for its default."""

import difflib
import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kdcore.runtime.failpoints import ENV_VARIABLE as FAILPOINTS_VARIABLE
from store.access.source_rules import SourceRule, parse_rules

VARIABLE_PREFIX = "STILLHOUSE_"
RENAMED_VARIABLES = {
    f"{VARIABLE_PREFIX}{old}": f"{VARIABLE_PREFIX}{new}"
    for old, new in (
        ("ANSWER_S", "DATABASE_TIMEOUT_S"),
        ("OBJECT_ANSWER_S", "OBJECT_TIMEOUT_S"),
        ("OBJECT_RETRY_S", "OBJECT_RETRY_TIMEOUT_S"),
        ("OBJECT_WAITS", "STORAGE_RETRIES"),
        ("STORAGE_PAUSE_S", "STORAGE_RETRY_DELAY_S"),
        ("KEEPER_S", "MAINTENANCE_INTERVAL_S"),
        ("REPOKE_S", "REMINDER_INTERVAL_S"),
        ("MAX_LOSSES", "MAX_LOST_RUNS"),
        ("CHECKPOINTS_KEPT", "MAX_CHECKPOINTS"),
        ("SPARE_ENGINE", "PREWARM_ENGINE"),
        ("REQUEST_S", "REQUEST_TIMEOUT_S"),
        ("PREDICT_HELD", "PREDICT_MAX_PENDING"),
        ("PREDICT_QUEUE_S", "PREDICT_QUEUE_TIMEOUT_S"),
        ("PREDICT_WAIT_S", "PREDICT_PREPARE_TIMEOUT_S"),
    )
}
"""New names by the old ones, as docs/how-to/deploy.md lists them."""
_DATABASE_FORM = (
    "should be postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, where the password has %40 "
    "for @, %2F for / and %25 for %"
)
_BROKER_FORM = (
    "should be redis://:PASSWORD@HOST:PORT/0 or redis+socket:///FOLDER/FILE, where the password "
    "has %40 for @, %2F for / and %25 for %"
)
_BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel")


class SettingsError(ValueError):
    """Settings are missing or invalid. The message names each variable, and no value."""


class Settings(BaseSettings):
    """Read from ``STILLHOUSE_<NAME>`` variables; only the first three have no default."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX, extra="ignore", hide_input_in_errors=True
    )

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
    """Caches, and a temporary folder for each run and each prediction."""

    sources: Annotated[tuple[SourceRule, ...], NoDecode] = ()
    """Folders of the workers and S3 prefixes that data sets may be read from, as JSON:
    ``[{"source": "folder:/data/x", "projects": ["prj_…"]}]``. None by default."""
    sources_s3_endpoint: str | None = None
    """``https://host:port`` of the S3 server of the sources; null for Amazon's. These five settings
    are apart from the object store's, which is often another server."""
    sources_s3_region: str = "us-east-1"
    sources_s3_access_key_id: SecretStr | None = None
    """Without a key, requests are not signed, as public buckets allow."""
    sources_s3_secret_access_key: SecretStr | None = None
    sources_s3_session_token: SecretStr | None = None
    source_ingest_s: int = 24 * 3600
    """Limit of one ingestion from a source, of its time and of its CPU seconds: it may have a
    hundred gigabytes."""
    source_buffer_bytes: int = Field(64 * 2**20, ge=8 * 2**20)
    """Bytes of a source that a worker reads ahead of the process that decodes them."""

    database_pool: int = 10
    """Connections of one process: the embedded Postgres allows 100, and there are few processes."""
    statement_timeout_s: float = 5.0
    """No query takes a second; one that hangs must not hold its connection forever."""
    database_timeout_s: float = 7.0
    """A frozen Postgres does not apply statement_timeout, so the client ends the connection."""
    object_timeout_s: float = 8.0
    """For one request to the object store, of at most 16 MiB: two megabytes per second."""
    object_retry_timeout_s: float = 20.0
    """How long a request to the object store is retried: less than a lease in all."""
    storage_retries: int = 30
    """After this many runs in a row without their inputs, the job fails and may be retried."""
    min_free_bytes: int = 256 * 2**20
    """A worker with less free space in its work folder claims no job."""

    heartbeat_s: float = 5.0
    """A sixth of the lease, so the lease survives several lost heartbeats."""
    lease_s: float = 30.0
    """How long a job waits for a silent worker: longer than any pause of a healthy process."""
    maintenance_interval_s: float = 5.0
    """Limits how late a lost message or an expired lease is noticed."""
    reminder_interval_s: float = 15.0
    """A job that is queued for longer gets another message: the first may be lost."""
    stall_s: float = 600.0
    """An engine without a sign of life for longer is killed, unless earlier pauses were as long."""
    stop_grace_s: float = 15.0
    """From SIGTERM to SIGKILL of the engine: many times the longest batch plus a checkpoint."""
    max_lost_runs: int = 5
    """Lost runs since the newest checkpoint: a job that kills every worker must fail eventually."""
    max_queued: int = 20_000
    """Queued jobs of one project: a script that posts in an endless loop must be refused."""
    max_crashes: int = 1
    """An uncaught exception of the engine is retried once: most such errors occur again."""
    max_checkpoints: int = 2
    """Checkpoints of one job: if the newest is damaged, the one before is used."""
    storage_retry_delay_s: float = 10.0
    """Delay of a job whose inputs could not be fetched: other jobs come first meanwhile."""
    prepare_wall_s: float = 3600.0
    """Limit of a preparation, because others wait behind it."""
    poll_s: float = 0.5
    """How often a worker reads the engine's events: too often for a person to notice the delay."""

    prepare_memory_bytes: int = 12 * 2**30
    """Address space of the process that opens uploads; torch alone maps several GiB."""
    prepare_cpu_s: int = 1800
    """CPU seconds that opening an upload may take."""
    max_file_bytes: int = 64 * 2**30
    """Largest file that the engine may write, and so the largest decoded data set."""
    torchvision_root: Path | None = None
    """Folder of a worker with files of torchvision's data sets, which are then not downloaded."""
    downloads: bool = True
    """Whether workers download pretrained weights of torchvision and timm into
    ``work_dir/downloads``. If not, jobs that need them fail with that reason."""
    prewarm_engine: bool = True
    """Whether each training slot keeps a process with torch loaded (300 MB): a job then starts
    seconds sooner."""
    engine_threads: int | None = None
    """Threads of one training; null shares the machine's cores among its training slots."""
    training_slots: int = 1
    """Trainings that share the cores of this machine."""

    request_timeout_s: float = 45.0
    """From the last byte of a request to its response. Longer than each single wait, because many
    requests may wait for a thread one after the other."""
    max_body_bytes: int = 1024 * 1024
    """Of a JSON body. Uploads are streamed and have their own limit."""
    max_predict_bytes: int = 16 * 2**20
    """Of the images of one prediction: sixteen photographs, and small enough to hold in memory."""
    predict_slots: int = 2
    """Predictions that run at once in one API process: each takes a core."""
    predict_max_pending: int = 16
    """Predictions in flight in one API process, each with its images in memory."""
    predict_queue_timeout_s: float = 5.0
    """How long a prediction waits for a slot: a person does not wait longer for a response."""
    predict_prepare_timeout_s: float = 20.0
    """How long the first prediction waits for the conversion of its model, which takes 5 s."""
    predict_wall_s: float = 10.0
    predict_cpu_s: int = 8
    """CPU seconds of one prediction: below the wall limit, so that the process can report why."""
    predict_memory_bytes: int = 4 * 2**30
    """Address space of that process: a network of a gigabyte is in memory twice."""
    onnx_cache_bytes: int = 2 * 2**30
    """ONNX files in ``work_dir/onnx``; the least recently used ones are deleted."""
    teacher_cache_bytes: int = 50 * 2**30
    """Teacher caches of one project; the least recently used ones are deleted."""
    teacher_cache_prefetch_bytes: int = 64 * 2**20
    """Teacher outputs that are downloaded before a run starts; the rest follows while it trains."""
    max_upload_bytes: int = 64 * 2**30
    upload_part_bytes: int = 64 * 2**20
    """Small enough to send again after a broken connection, large enough to be few."""
    upload_expiry_s: float = 24 * 3600
    orphan_grace_s: float = 24 * 3600
    """An object without a row is deleted only after this time: its row may not be written yet, or
    the database may have been restored from a backup that is older than the object."""
    idempotency_s: float = 24 * 3600
    session_s: float = 7 * 24 * 3600
    """How long a dashboard login lasts."""
    login_code_s: float = 3600
    """How long the printed address of the dashboard is valid."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            driver = make_url(value.get_secret_value()).drivername
        except (ArgumentError, ValueError):  # their messages have parts of the password
            raise ValueError(_DATABASE_FORM) from None
        if driver not in ("postgresql", "postgresql+psycopg"):
            raise ValueError(_DATABASE_FORM)
        return value

    @field_validator("broker_url")
    @classmethod
    def _check_broker_url(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            several = ";" in parts.netloc
            valid = parts.scheme in _BROKER_SCHEMES and (several or parts.port != 0)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(_BROKER_FORM)
        return value

    @field_validator("object_store")
    @classmethod
    def _check_object_store(cls, value: str) -> str:
        parts = urlsplit(value)
        local = parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path != ""
        bucket = parts.scheme == "s3" and parts.netloc != "" and "@" not in parts.netloc
        if not local and not bucket:
            raise ValueError("should be file:///FOLDER or s3://BUCKET/PREFIX")
        return value

    @field_validator("sources", mode="before")
    @classmethod
    def _parse_sources(cls, value: object) -> object:
        return parse_rules(value) if isinstance(value, str) else value

    @field_validator(
        "sources_s3_access_key_id",
        "sources_s3_secret_access_key",
        "sources_s3_session_token",
        mode="before",
    )
    @classmethod
    def _ignore_empty_key(cls, value: object) -> object:
        return value or None  # Compose sets a variable that is missing in `.env` to nothing

    @field_validator("sources_s3_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://host")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("should be https://HOST or http://HOST:PORT, without credentials")
        return value or None

    @model_validator(mode="after")
    def _check_source_keys(self) -> Self:
        if (self.sources_s3_access_key_id is None) != (self.sources_s3_secret_access_key is None):
            raise ValueError(
                "sources_s3_access_key_id and sources_s3_secret_access_key must be set together"
            )
        return self

    @model_validator(mode="after")
    def _check_timeouts(self) -> Self:
        if self.database_timeout_s <= self.statement_timeout_s:
            raise ValueError(
                "database_timeout_s (of the client) must be longer than statement_timeout_s"
            )
        return self


def check_settings_or_exit() -> None:
    """End this program with one line on standard error if its settings are invalid."""
    try:
        settings()
    except SettingsError as error:
        sys.exit(str(error))


@functools.cache
def settings() -> Settings:
    """The settings of this process, read once. Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        texts = []
        for issue in issues:
            variable = "".join(f"{VARIABLE_PREFIX}{name}".upper() + ": " for name in issue["loc"])
            texts.append(variable + issue["msg"].removeprefix("Value error, "))
    raise SettingsError(f"the settings are invalid: {'; '.join(texts)}")


_SETTING_VARIABLES = [f"{VARIABLE_PREFIX}{name.upper()}" for name in Settings.model_fields]
# The last three are of the command `stillhouse` and of its client.
_OTHER_VARIABLES = (
    FAILPOINTS_VARIABLE,
    *(f"{VARIABLE_PREFIX}{name}" for name in ("API_KEY", "URL", "POSTGRES_AS")),
)


class UnknownVariable(NamedTuple):
    """A variable that no part of the product reads."""

    name: str
    nearest: str | None
    """Its new name if it was renamed, else the most similar known name; None if none is similar."""


def unknown_variables(names: Iterable[str]) -> list[UnknownVariable]:
    """The unknown names among ``names`` that begin with STILLHOUSE_, in either case, sorted."""
    known = {*_SETTING_VARIABLES, *_OTHER_VARIABLES}
    return [
        UnknownVariable(name, _nearest_variable(name.upper()))
        for name in sorted(names)
        if name.upper().startswith(VARIABLE_PREFIX) and name.upper() not in known
    ]


def _nearest_variable(name: str) -> str | None:
    if name in RENAMED_VARIABLES:
        return RENAMED_VARIABLES[name]
    # Without the prefix, which would make any two names similar.
    endings = [known.removeprefix(VARIABLE_PREFIX) for known in _SETTING_VARIABLES]
    matches = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), endings, 1)
    return f"{VARIABLE_PREFIX}{matches[0]}" if matches else None
