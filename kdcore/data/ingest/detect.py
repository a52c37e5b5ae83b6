"""Which kind of source a request names: told by the upload's content, never by its file name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kdcore.data.ingest import digits
from kdcore.data.ingest.base import DatasetReader, IngestContext
from kdcore.data.ingest.folder_layout import IMAGE_SUFFIXES
from kdcore.data.ingest.image_folder import ImageFolderReader
from kdcore.data.ingest.npz import NpzReader
from kdcore.data.ingest.safe_zip import Archive
from kdcore.data.ingest.torchvision_sets import TorchvisionReader
from kdcore.data.ingest.webdataset import WebDatasetReader, is_tar
from kdcore.schema.dataset_sources import DIGITS, TORCHVISION_PREFIX


@contextlib.contextmanager
def open_reader(context: IngestContext) -> Iterator[DatasetReader]:
    """The request's source, open. Raises UserFault for what is no data set of any kind."""
    request = context.request
    if request.source.startswith(TORCHVISION_PREFIX):
        yield TorchvisionReader(request.source.removeprefix(TORCHVISION_PREFIX), context)
    elif request.source == DIGITS:
        path = context.workdir / "digits.zip"
        try:
            digits.write_archive(path)
            with _open_archive(path, context) as archive:
                yield ImageFolderReader(archive, context)
        finally:
            path.unlink(missing_ok=True)
    elif is_tar(path := Path(request.path or "")):
        yield WebDatasetReader(path, None, context)
    else:
        with _open_archive(path, context) as archive:
            yield _open_zip_reader(path, archive, context)


def _open_zip_reader(path: Path, archive: Archive, context: IngestContext) -> DatasetReader:
    names = [member.path_parts[-1].lower() for member in archive.members]
    if names and all(name.endswith(".npy") for name in names):
        return NpzReader(archive, context)
    if any(name.endswith(".tar") for name in names) and not any(
        name.endswith(IMAGE_SUFFIXES) for name in names
    ):
        return WebDatasetReader(path, archive, context)
    return ImageFolderReader(archive, context)


def _open_archive(path: Path, context: IngestContext) -> Archive:
    request = context.request
    return Archive(
        path,
        max_bytes=request.max_decoded_bytes,
        max_members=request.max_images,
        max_member_bytes=4 * request.max_pixels + (1 << 20),
    )
