"""What every kind of upload is to ingestion: a list of labeled images, then their pixels."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kdcore.data.decode import ImageHeader
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail, Progress
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter

_REPORT_EVERY_S = 1.0
MAX_CLASS_NAME_LENGTH = 200

Pixels = npt.NDArray[np.uint8]


class LabeledImage(NamedTuple):
    """One image with its label."""

    path_parts: tuple[str, ...]
    """Its folders and its name; what it is drawn by and named by."""
    split: SubsetName
    label: str
    """Empty where it has none, which only ``unlabeled`` may."""
    location: Any
    """Where its source finds it."""

    @property
    def name(self) -> str:
        """As a client reads it."""
        return "/".join(self.path_parts)


class ScannedImage(NamedTuple):
    """One image that can probably be read."""

    image: LabeledImage
    header: ImageHeader


class ImageFormat(NamedTuple):
    """What all images are brought to."""

    size: int
    gray: bool


class IngestContext:
    """What every step of one ingestion needs."""

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
        self._cancellation = cancellation
        self._last_report_s = time.monotonic()

    def report_progress(self, done: int, total: int | None = None) -> None:
        """Look at the stop flag and, if ``total`` is known, report progress now and then."""
        self._cancellation.check_cancelled()
        if total is None or time.monotonic() - self._last_report_s < _REPORT_EVERY_S:
            return
        self._last_report_s = time.monotonic()
        fraction = done / total
        progress = Progress(epoch=0, epochs=0, step=done, steps=total, fraction=fraction)
        self.events.metrics(done, 0.0, {}, progress=progress)

    def check_count(self, count: int) -> None:
        """Raise UserFault if there are more images than are taken."""
        if count > self.request.max_images:
            raise UserError(
                "dataset_invalid",
                f"the archive has {count} images; at most {self.request.max_images} are taken",
            )


class DatasetReader(Protocol):
    """One kind of upload, open."""

    classes: tuple[str, ...] | None
    """The classes in their own order, where the source has one; else they are sorted."""
    problems: list[ErrorDetail]
    """Everything that cannot be used, by its name; grows with each of the calls."""

    def scan(self) -> list[ScannedImage]:
        """Every usable image, in an order that is a function of the content."""
        ...

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """(C, S, S) of each image with its place in ``images``, in the source's own order.

        None where it turns out to be broken, which is then one of the problems.
        """
        ...
