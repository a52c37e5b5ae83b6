"""ImageArray: the images of one split in an array, and one scale for the arrays of all splits."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kdcore.data.ingest.arrays.numpy_file import ArrayFile, InvalidArrayError
from kdcore.data.ingest.arrays.pixel_layout import (
    EMPTY_RANGE,
    MIN_BRIGHTEST,
    PixelLayout,
    ValueRange,
    is_conclusive,
    parse_layout,
    scale_pixels,
    white_value,
)

_DARK_FACTOR = 8


@dataclass
class ImageArray:
    """The images of one split, which are read row by row."""

    file: ArrayFile
    layout: PixelLayout
    values: ValueRange = EMPTY_RANGE
    white: int = 255
    """The value of white: 1, 255, or 2^n - 1 for integers that are not uint8."""

    @classmethod
    def open(cls, file: ArrayFile, max_pixels: int) -> "ImageArray":
        """Check the header of an array. Raises :class:`InvalidArrayError`."""
        layout = parse_layout(file.header)
        if 0 in file.header.shape or layout.height * layout.width > max_pixels:
            raise InvalidArrayError(
                f"has {layout.num_images} images of {layout.width} x {layout.height} pixels; "
                f"1 to {max_pixels} pixels are allowed"
            )
        return cls(file, layout)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.file.header.dtype

    def measure(self, check_cancelled: Callable[[], None]) -> None:
        """Set :attr:`values`. Raises :class:`InvalidArrayError`."""
        for row in self.file.iter_rows(count_bytes=False):
            if is_conclusive(self.dtype, self.values):
                break
            check_cancelled()
            self.values = self.values.include(row)

    def iter_images(self, *, count_bytes: bool = True) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images (H, W) or (H, W, C) with values from 0 to 255.

        ``count_bytes=False`` reads again.
        """
        for row in self.file.iter_rows(count_bytes=count_bytes):
            yield scale_pixels(self.layout.arrange(row), self.white)

    def describe(self) -> str:
        """Return name, axes and values, for the source of a split."""
        facts = [self.layout.order, str(self.dtype)]
        if self.white != 255:
            span = f"{self.values.low:.6g} to {self.values.high:.6g}"
            facts.append(f"values from {span}, white is {self.white}")
        return f"{self.file.name} ({', '.join(facts)})"


def set_scale(array: ImageArray, arrays: Iterable[ImageArray]) -> None:
    """Set the value of white of an array.

    Arrays of one type have one scale, and so have all integers that are not uint8; beside uint8,
    their white is at least 255. ``arrays`` are those of all splits. Raises
    :class:`InvalidArrayError` for values of another range, and for floats from 0 to 1 beside floats
    from 0 to 255.
    """
    arrays = list(arrays)
    alike = [other for other in arrays if _have_one_scale(other.dtype, array.dtype)]
    joint = ValueRange(
        min(other.values.low for other in alike), max(other.values.high for other in alike)
    )
    array.white = white_value(array.dtype, joint)
    if _is_free_integer(array.dtype) and any(other.dtype == np.uint8 for other in arrays):
        array.white = max(255, array.white)
    if array.dtype.kind == "f" and array.white != white_value(array.dtype, array.values):
        other = max(alike, key=lambda other: other.values.high)
        raise InvalidArrayError(
            f"has values up to {array.values.high:.6g}, but {other.file.name} up to "
            f"{other.values.high:.6g}; save both with one scale, 0 to 1 or 0 to 255"
        )


def describe_scales(arrays: Iterable[ImageArray]) -> Iterator[str]:
    """Yield warnings of scales that may be others than the user's; ``arrays`` are of all splits."""
    arrays = list(arrays)
    most = max((array.white for array in arrays), default=255)
    for array in arrays:
        highest = f"the largest value of {array.file.name} is {array.values.high:.0f}"
        if array.dtype == np.uint8:
            if array.values.high < MIN_BRIGHTEST:
                stored = "stored as 0 to 255" if array.white == 1 else "of 255, so images are dark"
                yield f"{highest}, {stored}"
            if most > 255:
                yield f"{array.file.name} is uint8 with white as 255, but other images have {most}"
        elif _is_free_integer(array.dtype):
            if array.white < 255:
                yield (
                    f"{highest} ({array.dtype}), so the range 0 to {array.white} of the data set "
                    "was scaled to 0 to 255; save uint8 if white is 255"
                )
            if array.values.high * _DARK_FACTOR <= array.white:
                yield f"{highest}, of {array.white} in the data set, so its images are dark"


def _have_one_scale(first: np.dtype[Any], second: np.dtype[Any]) -> bool:
    return first == second or (_is_free_integer(first) and _is_free_integer(second))


def _is_free_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether the type does not say which value is white."""
    return dtype.kind in "iu" and dtype != np.uint8
