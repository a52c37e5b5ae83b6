"""Open the source of a data set, if the operator still allows it."""

from collections.abc import Iterator

from kdcore.protocol.source_channel import ListedFile
from kdcore.schema.dataset_sources import FileSource, parse_file_source
from store.access.source_rules import matching_rule
from store.settings import settings
from store.tables import Dataset
from worker.sources.base import FileReader, SourceRefusedError
from worker.sources.folder import FolderReader
from worker.sources.s3 import S3Reader
from worker.sources.source_server import SourceServer


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
