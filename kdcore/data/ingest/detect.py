"""Which kind of source a request names: told by the upload's content, never by its file name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kdcore.data.ingest import digits
from kdcore.data.ingest.base import Context, Source
from kdcore.data.ingest.folder_layout import IMAGES
from kdcore.data.ingest.image_folder import FolderSource
from kdcore.data.ingest.npz import ArraySource
from kdcore.data.ingest.safe_zip import Archive
from kdcore.data.ingest.torchvision_sets import VisionSource
from kdcore.data.ingest.webdataset import ShardSource, is_tar
from kdcore.schema.dataset_sources import DIGITS, PREFIX


@contextlib.contextmanager
def opened(context: Context) -> Iterator[Source]:
    """The request's source, open. Raises UserFault for what is no data set of any kind."""
    request = context.request
    if request.source.startswith(PREFIX):
        yield VisionSource(request.source.removeprefix(PREFIX), context)
    elif request.source == DIGITS:
        path = context.workdir / "digits.zip"
        try:
            digits.write_archive(path)
            with _archive(path, context) as archive:
                yield FolderSource(archive, context)
        finally:
            path.unlink(missing_ok=True)
    elif is_tar(path := Path(request.path or "")):
        yield ShardSource(path, None, context)
    else:
        with _archive(path, context) as archive:
            yield _of_zip(path, archive, context)


def _of_zip(path: Path, archive: Archive, context: Context) -> Source:
    names = [member.parts[-1].lower() for member in archive.members]
    if names and all(name.endswith(".npy") for name in names):
        return ArraySource(archive, context)
    if any(name.endswith(".tar") for name in names) and not any(
        name.endswith(IMAGES) for name in names
    ):
        return ShardSource(path, archive, context)
    return FolderSource(archive, context)


def _archive(path: Path, context: Context) -> Archive:
    request = context.request
    return Archive(
        path,
        max_bytes=request.max_decoded_bytes,
        max_members=request.max_images,
        max_member=4 * request.max_pixels + (1 << 20),
    )
