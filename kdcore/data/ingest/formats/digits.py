"""Read the built-in data set: 1797 handwritten digits of 8 x 8 pixels.

Source: the test set of https://archive.ics.uci.edu/dataset/80, as scikit-learn ships it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from kdcore.data.decode import ImageHeader, fit_image
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.protocol.events import ErrorDetail
from kdcore.schema.dataset_sources import DIGITS

_MAX_VALUE = 16
"""Pixels of the source go from 0 to 16."""


def open_reader(context: IngestContext) -> "DigitsReader | None":
    """Return a reader if the request names this data set."""
    return DigitsReader(context) if context.request.source == DIGITS else None


class DigitsReader:
    """Reads the digits from scikit-learn. Their names are ``<digit>/<number>.png``."""

    classes: tuple[str, ...] | None = None

    def __init__(self, context: IngestContext) -> None:
        # scikit-learn takes seconds to import, and only this data set needs it.
        from sklearn.datasets import load_digits

        data = load_digits()
        self._context = context
        self._pixels = np.rint(data.images * (255 / _MAX_VALUE)).astype(np.uint8)
        self._labels = [str(digit) for digit in data.target]
        self.problems: list[ErrorDetail] = []

    def scan(self) -> list[ScannedImage]:
        """List the images, sorted by class and number."""
        self._context.check_count(len(self._labels))
        self._context.summary.sources["train"] = "scikit-learn's digits"
        height, width = self._pixels.shape[1:]
        header = ImageHeader(width, height, gray=True)
        images = [
            LabeledImage((label, f"{index:04d}.png"), "train", label, index)
            for index, label in enumerate(self._labels)
        ]
        return [ScannedImage(image, header) for image in sorted(images)]

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of ``images``."""
        for position, image in enumerate(images):
            self._context.report_progress(position, len(images))
            pixels = Image.fromarray(self._pixels[image.location])
            yield position, fit_image(pixels, gray=image_format.gray, size=image_format.size)
