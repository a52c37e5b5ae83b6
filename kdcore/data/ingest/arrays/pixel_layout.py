"""How an array holds images: the order of its axes, and the values of black and white."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.ingest.arrays.numpy_file import ArrayHeader, InvalidArrayError

_CHANNELS = (1, 3, 4)
_MIN_FLAT_PIXELS = 64
"""Pixels of the smallest square image that rows of 3 or 4 channels may be."""
_AXES = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"
_MAX_ROUNDING = 1e-3
"""Floats of resized images exceed 0 and 1 by rounding."""
MIN_BRIGHTEST = 32
"""Images from 0 to 255 whose largest value is smaller have another range."""

Order = Literal["N x H x W", "N x H x W x C", "N x C x H x W", "flat rows"]


class PixelLayout(NamedTuple):
    """Shape of the images of an array."""

    num_images: int
    height: int
    width: int
    channels: int
    order: Order

    def arrange(self, row: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return one row as (H, W), or as (H, W, C) with several channels."""
        if self.order == "N x C x H x W":
            row = row.transpose(1, 2, 0)
        shape = (self.height, self.width, self.channels)
        return row.reshape(shape if self.channels > 1 else shape[:2])


def parse_layout(header: ArrayHeader) -> PixelLayout:
    """Return the layout of an array of images. Raises :class:`InvalidArrayError`."""
    shape, dtype = header
    if dtype.kind not in "biuf":
        raise InvalidArrayError(f"has values of type {dtype}; numbers from 0 to 255 were expected")
    if len(shape) == 2:
        return _flat_layout(shape)
    if len(shape) == 3:
        return _gray_layout(*shape)
    if len(shape) != 4:
        raise InvalidArrayError(f"has the shape {shape}; {_AXES} was expected")
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first and last:
        raise InvalidArrayError(
            f"has the shape {shape}, in which either the second or the last axis may be the "
            f"channels; {_AXES} was expected"
        )
    if last:
        return PixelLayout(*shape, "N x H x W x C")
    if first:
        return PixelLayout(shape[0], shape[2], shape[3], shape[1], "N x C x H x W")
    raise InvalidArrayError(f"has the shape {shape}; {_AXES} was expected")


def _gray_layout(count: int, height: int, width: int) -> PixelLayout:
    """Return the layout of (N, H, W); an axis of channels beside one of all pixels is no height."""
    few, many = sorted((height, width))
    if few == 1 < many:
        return _flat_layout((count, many))
    side = math.isqrt(many)
    if few in _CHANNELS and side * side == many >= _MIN_FLAT_PIXELS:
        axes = f"{few}, {side}, {side}" if height == few else f"{side}, {side}, {few}"
        raise InvalidArrayError(
            f"has the shape {(count, height, width)}, as of {few} channels beside {side} x {side} "
            f"pixels in one axis; save images.reshape(-1, {axes})"
        )
    return PixelLayout(count, height, width, 1, "N x H x W")


def _flat_layout(shape: tuple[int, ...]) -> PixelLayout:
    side = math.isqrt(shape[1])
    if side * side == shape[1] and side > 1:
        return PixelLayout(shape[0], side, side, 1, "flat rows")
    colors = math.isqrt(shape[1] // 3)
    if 3 * colors * colors == shape[1]:
        raise InvalidArrayError(
            f"has the shape {shape}: rows of colors have no known order; save images.reshape("
            f"-1, 3, {colors}, {colors}) if red comes first, else images.reshape(-1, {colors}, "
            f"{colors}, 3)"
        )
    raise InvalidArrayError(f"has the shape {shape}; {_AXES}, or rows of H x H, was expected")


class ValueRange(NamedTuple):
    """Smallest and largest value of one array or of several."""

    low: float
    high: float

    def include(self, row: npt.NDArray[Any]) -> "ValueRange":
        """Return the range with the values of ``row``. Raises :class:`InvalidArrayError`."""
        low, high = float(row.min()), float(row.max())
        if not math.isfinite(low + high):
            raise InvalidArrayError("has values that are infinite or not a number")
        return ValueRange(min(self.low, low), max(self.high, high))


EMPTY_RANGE = ValueRange(math.inf, -math.inf)


def is_conclusive(dtype: np.dtype[Any], values: ValueRange) -> bool:
    """Return whether further rows cannot change the scale."""
    return dtype.kind == "b" or (dtype == np.uint8 and values.high >= MIN_BRIGHTEST)


def white_value(dtype: np.dtype[Any], values: ValueRange) -> int:
    """Return the value of white: 1, 255, or 2^n - 1 for integers that are not uint8.

    The latter is the smallest such number that no value exceeds: 4095 for a sensor of 12 bits.
    Raises :class:`InvalidArrayError` for values of another range, with their conversion.
    """
    if dtype.kind == "b":
        return 1
    slack = _MAX_ROUNDING if dtype.kind == "f" else 0
    span = f"{values.low:.6g} to {values.high:.6g}"
    if values.low < -slack:
        raise InvalidArrayError(f"has values from {span}; {_negative_fix(values)}")
    if values.high <= 1 + slack:
        return 1
    if dtype.kind == "f":
        return _white_of_floats(values, span)
    if values.high > 65535:
        raise InvalidArrayError(f"has values from {span}; integers from 0 to 65535 were expected")
    return 255 if dtype == np.uint8 else (1 << int(values.high).bit_length()) - 1


def _white_of_floats(values: ValueRange, span: str) -> int:
    if MIN_BRIGHTEST <= values.high <= 255 + _MAX_ROUNDING:
        return 255
    raise InvalidArrayError(
        f"has values from {span}; 0 to 1, or 0 to 255, was expected: save images / "
        f"{values.high:.6g} if the largest value is white"
    )


def _negative_fix(values: ValueRange) -> str:
    if values.low >= -1 - _MAX_ROUNDING and values.high <= 1 + _MAX_ROUNDING:
        return "0 to 1 was expected: save (images + 1) / 2"
    return "0 to 1, or 0 to 255, was expected: save the images before their normalization"


def scale_pixels(values: npt.NDArray[Any], white: int) -> npt.NDArray[np.uint8]:
    """Scale numbers from 0 to ``white`` to bytes from 0 to 255, rounded."""
    if white == 255 and values.dtype == np.uint8:
        return values
    scaled: npt.NDArray[Any]
    if values.dtype.kind == "f":
        scaled = np.rint((values.astype(np.float64) * (255 / white)).clip(0, 255))
    else:
        scaled = (values.astype(np.int64) * 255 + white // 2) // white
    return scaled.astype(np.uint8)
