"""Sources for tests: servers of folders and of S3 prefixes, and ingestion through them."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import obstore

from kdcore.data.dataset import MappedDataset
from kdcore.data.ingest.archives.open_archive import ArchiveLimits
from kdcore.data.ingest.archives.source_archive import SourceArchive
from kdcore.data.ingest.archives.source_client import SourceClient
from kdcore.schema.dataset_sources import parse_file_source
from tests.kdcore.data.ingest.helpers import ingest_upload
from tests.kdcore.uploads import Workdir
from tests.worker.sources.conftest import S3Server
from worker.sources.file_readers import FileReader, FolderReader
from worker.sources.source_server import SourceServer

LIMITS = ArchiveLimits(max_bytes=1 << 30, max_members=1000, max_member_bytes=1 << 26)


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder; return the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def put_objects(server: S3Server, prefix: str, files: Mapping[str, bytes]) -> str:
    """Store objects below a prefix; return the source."""
    for name, data in files.items():
        obstore.put(server.store, f"{prefix}/{name}", data)
    return f"s3://{server.bucket}/{prefix}"


def folder_reader(allowed: Path, folder: Path | None = None) -> FolderReader:
    """A reader of a folder, which is the allowed one by default."""
    root, source = (parse_file_source(f"folder:{path}") for path in (allowed, folder or allowed))
    return FolderReader(root, source)


@contextlib.contextmanager
def serve_source(
    reader: FileReader, buffer_bytes: int = 8 << 20
) -> Iterator[tuple[SourceServer, int]]:
    """A running server, and the engine's end of its channel."""
    with SourceServer(reader, buffer_bytes) as server:
        descriptor = os.dup(server.engine_fd)
        server.start()
        yield server, descriptor


@contextlib.contextmanager
def open_listed(reader: FileReader, limits: ArchiveLimits = LIMITS) -> Iterator[SourceArchive]:
    """A source as the engine sees it."""
    with (
        serve_source(reader) as (_, descriptor),
        contextlib.closing(SourceClient(descriptor)) as client,
    ):
        yield SourceArchive(client, limits)


def ingest_source(workdir: Workdir, reader: FileReader, **options: Any) -> MappedDataset:
    """Ingest a source in this process, and open the stored data set."""
    with serve_source(reader) as (_, descriptor):
        dataset: MappedDataset = ingest_upload(workdir, None, channel=descriptor, **options)
        return dataset
