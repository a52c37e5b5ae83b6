"""ingest: an upload or a named source becomes a data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from kdcore.protocol.requests import IngestRequest
from kdcore.protocol.source_channel import ListedFile
from kdcore.schema.dataset_sources import (
    FileSource,
    OnBadImage,
    OnDuplicates,
    is_file_source,
    parse_file_source,
)
from store.access.source_rules import matching_rule
from store.database import transaction
from store.settings import settings
from store.tables import Dataset, Job
from worker.files import workdirs
from worker.files.run_uploads import upload_asset
from worker.kinds.base import (
    Inputs,
    KindHandler,
    Publication,
    fetch_upload,
    untrusted_input_limits,
)
from worker.run_result import EngineOutputs
from worker.sources.file_readers import FileReader, FolderReader, SourceRefusedError
from worker.sources.s3_reader import S3Reader
from worker.sources.source_server import SourceServer


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """The upload's bytes, or the name of a source that the engine has or downloads."""
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    server = open_source(dataset) if is_file_source(dataset.source) else None
    root = settings().torchvision_root
    request = IngestRequest(
        source="archive" if dataset.upload_id or server else dataset.source,
        path=fetch_upload(dataset.upload_id, workdir) if dataset.upload_id else None,
        channel=server.engine_fd if server else None,
        root=str(root) if root else None,
        image_size=job.spec.get("image_size"),
        split_seed=dataset.split_seed,
        on_bad_image=cast(OnBadImage, dataset.on_bad_image),
        on_duplicates=cast(OnDuplicates, dataset.on_duplicates),
        max_decoded_bytes=settings().max_file_bytes,
        limits=untrusted_input_limits(),
    )
    if server is None:
        return Inputs(request)
    limits = request.limits.model_copy(update={"cpu_s": settings().source_ingest_s})
    folder = str(workdirs.source_folder(job))
    request = request.model_copy(update={"limits": limits, "resume_dir": folder})
    return Inputs(request, source_server=server, time_limit_s=settings().source_ingest_s)


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Fields of the data set's row: its info, and its object key."""
    stored = upload_asset(job, outputs.artifacts[0], workdir, "datasets")
    return Publication({"info": outputs.report} | stored)


def open_source(dataset: Dataset) -> SourceServer:
    """Return a server of the source's files, not yet started."""
    source = parse_file_source(dataset.source)
    rule = matching_rule(settings().sources, dataset.source, dataset.project_id)
    reader: FileReader
    if rule is None:
        reader = ForbiddenReader(source)
    elif source.bucket is not None:
        reader = S3Reader(source)
    else:
        reader = FolderReader(parse_file_source(rule.source), source)
    return SourceServer(reader, settings().source_buffer_bytes)


class ForbiddenReader:
    """Refuses a source that the settings of this worker do not allow; those of the API did."""

    single = False
    num_threads = 1

    def __init__(self, source: FileSource) -> None:
        self._message = f"the project may not read {source.address} on the worker"

    def list_files(self) -> Iterator[ListedFile]:
        """Raise SourceRefusedError."""
        raise SourceRefusedError(self._message)

    def read(self, file: ListedFile, start: int, size: int) -> bytes:
        """Raise SourceRefusedError."""
        raise SourceRefusedError(self._message, file.name)

    def close(self) -> None:
        """Do nothing."""


HANDLERS = (KindHandler("ingest", load_inputs, publish),)
