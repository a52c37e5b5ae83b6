"""The reader of a data set format (:class:`DatasetReader`) and what readers share.

A format is a module of `formats` with a function ``open_reader(context)``, which returns a reader
for an upload in its format and None for any other upload. Ingestion then calls ``scan``, which
lists the labeled images, and ``decode_images``, which decodes them.
"""

import contextlib
import errno
import functools
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kdcore.data.decode import FULL_RANGE, ImageHeader
from kdcore.data.ingest.archives.compression import decompress_file
from kdcore.data.ingest.archives.open_archive import ArchiveLimits, MemberArchive, open_archive
from kdcore.data.ingest.archives.safe_zip import ArchiveMember
from kdcore.data.ingest.archives.source_archive import SourceArchive
from kdcore.data.ingest.archives.source_client import SourceClient
from kdcore.data.ingest.ingest_summary import SummaryBuilder
from kdcore.data.ingest.manifests.column_roles import UnreadTable
from kdcore.data.ingest.resume import ResumeFolder
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail, Progress
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError, error_detail
from kdcore.runtime.event_writer import EventWriter

REPORT_EVERY_S = 1.0
_COPY_CHUNK = 1 << 20

Pixels = npt.NDArray[np.uint8]


class LabeledImage(NamedTuple):
    """One image with its label."""

    path_parts: tuple[str, ...]
    """Folders and file name: identify the image in errors and in the draw of splits."""
    split: SubsetName
    label: str
    """Empty for ``unlabeled`` images alone."""
    location: Any
    """How its reader finds the image again."""

    @property
    def name(self) -> str:
        """The path as shown to users."""
        return "/".join(self.path_parts)


class ScannedImage(NamedTuple):
    """One image whose header was read."""

    image: LabeledImage
    header: ImageHeader


class ImageFormat(NamedTuple):
    """Size and channels of every stored image, and the range of images with 16 bits."""

    size: int
    gray: bool
    sixteen_bit_range: int = FULL_RANGE


class BadImage(NamedTuple):
    """An image that cannot be decoded, and its label if it is known."""

    detail: ErrorDetail
    label: str | None


class IngestContext:
    """Request, working directory, events and cancellation of one ingestion."""

    def __init__(
        self,
        request: IngestRequest,
        workdir: Path,
        events: EventWriter,
        cancellation: CancellationToken,
    ) -> None:
        self.request = request
        self.workdir = workdir
        self.events = events
        self.summary = SummaryBuilder()
        self.bad_images: dict[str, BadImage] = {}
        """By name; a second pass over the upload finds the same ones."""
        self.num_resumed = 0
        """Images of the present pass that an earlier run has read: they count as progress."""
        self.unread_tables: list[UnreadTable] = []
        """Tables that name images, but no labels."""
        self._cancellation = cancellation
        self._last_report_s = time.monotonic()
        self._resources = contextlib.ExitStack()

    @functools.cached_property
    def source(self) -> SourceArchive | None:
        """The files of a folder or a prefix; None for an upload or a built-in data set."""
        if self.request.channel is None:
            return None
        client = SourceClient(self.request.channel)
        self._resources.callback(client.close)
        return SourceArchive(client, self._limits)

    @functools.cached_property
    def path(self) -> Path:
        """The uploaded file, decompressed if all of it is one stream of gzip, zstd, bzip2 or xz.

        Raises :class:`UserError` ``dataset_invalid`` for a damaged stream.
        """
        uploaded = self._uploaded_file()
        if uploaded is None:
            return Path()
        unpacked = self.temporary_path("upload")
        max_bytes = self.request.max_decoded_bytes
        return decompress_file(uploaded, unpacked, max_bytes, self._cancellation.check_cancelled)

    def _uploaded_file(self) -> Path | None:
        """The upload, or a copy of the one file that a source is."""
        if self.request.path is not None:
            return Path(self.request.path)
        if self.source is None or self.source.single is None:
            return None
        return self._copy_single(self.source, self.source.single)

    @functools.cached_property
    def resume(self) -> ResumeFolder | None:
        """What an earlier run of the job has read of the source; None without a source."""
        if self.source is None or self.request.resume_dir is None:
            return None
        key = f"{self.source.list_digest} {self.request.max_pixels}"
        folder = ResumeFolder.open(Path(self.request.resume_dir), key)
        if folder is not None:
            self._resources.callback(folder.close)
        return folder

    def _copy_single(self, source: SourceArchive, member: ArchiveMember) -> Path:
        size, most = member.entry.size, self.request.max_decoded_bytes
        if size > most:
            problem = f"{member.name} has {size} bytes; at most {most} are allowed for one file"
            raise UserError("dataset_invalid", problem)
        resume = self.resume
        path = self.temporary_path("source") if resume is None else resume.copy_path
        _require_free_space(path, size, member.name)
        with source.stream(member) as stream, path.open("ab") as file:
            stream.seek(file.tell())
            while data := stream.read(_COPY_CHUNK):
                file.write(data)
                self.report_progress(file.tell(), member.entry.size)
        return path

    @property
    def input_bytes(self) -> int:
        """Bytes of the upload, or of all files of a source."""
        if self.source is not None and self.source.single is None:
            return self.source.total_bytes
        return self.path.stat().st_size

    @property
    def _limits(self) -> ArchiveLimits:
        return ArchiveLimits(
            max_bytes=self.request.max_decoded_bytes,
            max_members=self.request.max_images,
            max_member_bytes=self.max_member_bytes,
        )

    @functools.cached_property
    def archive(self) -> MemberArchive:
        """The upload as a zip or tar, or the files of a source.

        Raises :class:`UserError` ``dataset_invalid`` for other uploads.
        """
        archive: MemberArchive
        if self.source is not None and self.source.single is None:
            archive = self.source
        else:
            archive = self._resources.enter_context(open_archive(self.path, self._limits))
        self.summary.add_ignored("is hidden, or belongs to an operating system", archive.ignored)
        if archive.name_warning:
            self.summary.add_warning(*archive.name_warning)
        return archive

    @property
    def max_member_bytes(self) -> int:
        """Bytes of the largest file that is read at once: an image without compression."""
        return 4 * self.request.max_pixels + (1 << 20)

    def temporary_path(self, name: str) -> Path:
        """Return the path of a file that ingestion may write and that :meth:`close` removes."""
        path = self.workdir / f"{name}.unpacked"
        self._resources.callback(path.unlink, missing_ok=True)
        return path

    def read_start(self, count: int) -> bytes:
        """Return the first ``count`` bytes of the upload, or none for an unreadable file."""
        try:
            with self.path.open("rb") as file:
                return file.read(count)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the archive and remove temporary files."""
        self._resources.close()

    def report_progress(self, done: int, total: int | None = None) -> None:
        """Check for cancellation and, if ``total`` is known, report progress once a second.

        Without ``total``, files of a source are counted instead of images.
        """
        self._cancellation.check_cancelled()
        if total is None and self.source is not None and self.source.single is None:
            done, total = self.source.progress
        if total is None or time.monotonic() - self._last_report_s < REPORT_EVERY_S:
            return
        self._last_report_s = time.monotonic()
        done, total = done + self.num_resumed, total + self.num_resumed
        fraction = done / total
        progress = Progress(epoch=0, epochs=0, step=done, steps=total, fraction=fraction)
        self.events.metrics(done, 0.0, {}, progress=progress)

    def add_bad_image(self, name: str, detail: str, label: str | None = None) -> None:
        """Record an image that cannot be decoded: ``on_bad_image`` says what becomes of it."""
        self.bad_images[name] = BadImage(error_detail(name, detail), label)

    def add_labels(self, labels: Mapping[tuple[str, ...], str]) -> None:
        """Set the labels of bad images by the parts of their paths."""
        for path_parts, label in labels.items():
            name = "/".join(path_parts)
            self.bad_images[name] = self.bad_images[name]._replace(label=label)

    def check_count(self, count: int) -> None:
        """Raise :class:`UserError` ``dataset_invalid`` above the maximal number of images."""
        if count > self.request.max_images:
            raise UserError(
                "dataset_invalid",
                f"the archive has {count} images; at most {self.request.max_images} are allowed",
            )


def _require_free_space(path: Path, size: int, name: str) -> None:
    """Raise the error of a full disk before a file of ``size`` bytes is copied to ``path``."""
    missing = size - (path.stat().st_size if path.exists() else 0)
    if missing > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, f"no space for the {size} bytes of {name}")


class DatasetReader(Protocol):
    """Reads one upload of one format."""

    classes: tuple[str, ...] | None
    """Class names in the order of the upload; None sorts them by name."""
    problems: list[ErrorDetail]
    """Everything unusable, by name. Both methods add to the list."""

    def scan(self) -> list[ScannedImage]:
        """Return every usable image, in an order that depends on the content alone."""
        ...

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Yield an index into ``images`` and the pixels (C, S, S), in any order.

        Pixels are None for a broken image, which is added to :attr:`problems`.
        """
        ...
