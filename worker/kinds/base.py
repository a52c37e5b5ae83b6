"""KindHandler: the worker's side of one kind of job, and what several kinds share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.protocol.requests import EngineRequest, ResourceLimits
from store import object_store
from store.database import transaction
from store.settings import settings
from store.tables import Artifact, Job, Upload
from worker.run_result import EngineOutputs
from worker.sources.source_server import SourceServer


class Inputs(NamedTuple):
    """A request whose files are all on this machine."""

    request: EngineRequest
    warnings: Sequence[str] = ()
    """Sentences for the job's log, such as a checkpoint that cannot be used."""
    source_server: SourceServer | None = None
    """Serves the files of a source while the engine runs."""
    time_limit_s: float | None = None
    """Limit of the run instead of the one that jobs of its queue have."""


class Publication(NamedTuple):
    """Result of a successful run, and the rows of its stored files."""

    result: dict[str, Any]
    artifacts: Sequence[Artifact] = ()


class ResultRejectedError(Exception):
    """The engine succeeded, but its result does not fit what the user declared."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


def publish_report(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Only the engine's report."""
    return Publication(outputs.report or {})


class KindHandler(NamedTuple):
    """What a worker does for jobs of one kind, beside starting the engine."""

    name: str
    """The kind's name in kdcore/schema/job_kinds.py."""
    load_inputs: Callable[[Job, Path], Inputs]
    """Fetch what the job needs into the work folder or the cache, and build the request.

    Raises CorruptBlobError, FileNotFoundError or NoResultFound for an input that is damaged or
    gone.
    """
    publish: Callable[[Job, EngineOutputs, Path], Publication] = publish_report
    """Store the files of a successful run; its rows are written by the caller."""


def untrusted_input_limits() -> ResourceLimits:
    """Limits of a process that opens what users sent, or converts it."""
    config = settings()
    return ResourceLimits(
        memory_bytes=config.prepare_memory_bytes,
        cpu_s=config.prepare_cpu_s,
        file_bytes=config.max_file_bytes,
    )


def fetch_upload(upload_id: str, workdir: Path) -> str:
    """Fetch an upload into the work folder, not into the cache: it is read only once.

    Raises FileNotFoundError if the upload was discarded.
    """
    with transaction() as session:
        upload = session.get_one(Upload, upload_id)
        keys = [part.object_key for part in upload.parts]
    if not keys:
        raise FileNotFoundError(f"the upload {upload_id} was invalid, so its bytes were deleted")
    path = workdir / "upload"
    object_store.fetch(keys, path, upload.sha256)
    return str(path)
