"""One file for each format of a data set; the content of an upload decides, never its name."""

import contextlib
import importlib
from collections.abc import Iterator

from kdcore.data.ingest.base import DatasetReader, IngestContext

FORMATS = (
    "torchvision_sets",
    "digits",
    "parquet",
    "csv_manifest",
    "webdataset",
    "npz",
    "image_folder",  # last, because it takes every zip
)
"""Modules of this package, in the order in which their ``open_reader`` is tried."""


@contextlib.contextmanager
def open_reader(context: IngestContext) -> Iterator[DatasetReader]:
    """Open the source of the request. Raises :class:`UserError` ``dataset_invalid``."""
    with contextlib.closing(context):
        yield _first_reader(context)


def _first_reader(context: IngestContext) -> DatasetReader:
    for name in FORMATS:
        module = importlib.import_module(f"{__name__}.{name}")
        reader: DatasetReader | None = module.open_reader(context)
        if reader is not None:
            return reader
    raise LookupError(f"no format takes the source {context.request.source!r}")
