"""Geometric operations: crops, resized crops, affine maps and cutout.

All arithmetic on pixels is in integers, so results are equal on every device: positions are
rounded to 128ths of a pixel, and a blend is rounded once.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdcore.data.rng import bounded_integers, derive_key, random_bits, uniform
from kdcore.data.transfer import array_to_device
from kdcore.schema.augmentation import CropFlip, Cutout, RandomResizedCrop

_CROP_STREAM, _RESIZED_CROP_STREAM, _CUTOUT_STREAM = 1, 4, 5
"""Random streams of one seed."""
_MAX_TRIES = 10
"""Boxes that are drawn before the largest central box is used instead."""
_FRACTION = 16
"""Fractional bits of an affine map's coefficients."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class CropFlipParams(NamedTuple):
    """Crop positions and flips of B images."""

    top: Ints  # (B,) row of the padded image where the crop starts
    left: Ints  # (B,)
    mirrored: NDArray[np.bool_]  # (B,)


class ResizedCropParams(NamedTuple):
    """The boxes of B images that are stretched to the size of the image, and flips."""

    top: Ints  # (B,)
    left: Ints  # (B,)
    height: Ints  # (B,)
    width: Ints  # (B,)
    mirrored: NDArray[np.bool_]  # (B,)


_Params = TypeVar("_Params", CropFlipParams, ResizedCropParams)


def slice_params(params: _Params, rows: slice) -> _Params:
    """Select the parameters of some of the images."""
    fields = params._asdict().items()
    return params._replace(**{name: values[rows] for name, values in fields})


def crop_flip_params(seed: int, epoch: int, ids: Ints, augmentation: CropFlip) -> CropFlipParams:
    """Draw crop position and flip for the sample ``ids`` (B,) in this epoch."""
    key = derive_key(seed, _CROP_STREAM, epoch)
    num_positions = 2 * (augmentation.padding or 0) + 1
    mirrored = bounded_integers(random_bits(key, ids, 2), 2) == 1
    return CropFlipParams(
        top=bounded_integers(random_bits(key, ids, 0), num_positions),
        left=bounded_integers(random_bits(key, ids, 1), num_positions),
        mirrored=mirrored & bool(augmentation.flip),
    )


def resized_crop_params(
    seed: int, epoch: int, ids: Ints, augmentation: RandomResizedCrop, *, size: tuple[int, int]
) -> ResizedCropParams:
    """Draw a box in images of ``size`` (H, W) for the sample ``ids`` (B,) in this epoch.

    The area is uniform within ``scale``, the ratio of width to height log-uniform within
    ``ratio``, the position uniform. A box that does not fit is drawn again, ten times at most.
    """
    key = derive_key(seed, _RESIZED_CROP_STREAM, epoch)
    height, width = _central_box(size, augmentation.ratio, len(ids))
    pending = np.ones(len(ids), dtype=bool)
    low, high = augmentation.scale
    first, last = np.log(augmentation.ratio)
    for attempt in range(_MAX_TRIES):
        share = low + (high - low) * uniform(random_bits(key, ids, 2 * attempt))
        ratio = np.exp(first + (last - first) * uniform(random_bits(key, ids, 2 * attempt + 1)))
        area = share * size[0] * size[1]
        tall = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        wide = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        fits = pending & (tall > 0) & (tall <= size[0]) & (wide > 0) & (wide <= size[1])
        height, width = np.where(fits, tall, height), np.where(fits, wide, width)
        pending &= ~fits
    first_draw, mirror = 2 * _MAX_TRIES, bool(augmentation.flip)
    top = bounded_integers(random_bits(key, ids, first_draw), size[0] - height + 1)
    left = bounded_integers(random_bits(key, ids, first_draw + 1), size[1] - width + 1)
    return ResizedCropParams(
        top=np.where(pending, (size[0] - height) // 2, top),
        left=np.where(pending, (size[1] - width) // 2, left),
        height=height,
        width=width,
        mirrored=(bounded_integers(random_bits(key, ids, first_draw + 2), 2) == 1) & mirror,
    )


def _central_box(
    size: tuple[int, int], ratio: tuple[float, float], count: int
) -> tuple[Ints, Ints]:
    """Return height and width of the largest box with an allowed ratio."""
    height, width = size
    aspect_ratio = min(max(width / height, ratio[0]), ratio[1])
    tall, wide = min(height, round(width / aspect_ratio)), min(width, round(height * aspect_ratio))
    return np.full(count, max(1, tall)), np.full(count, max(1, wide))


def crop_and_flip(images: Tensor, params: CropFlipParams, padding: int) -> Tensor:
    """Pad ``images`` (B, C, H, W) with zeros and return their crops (B, C, H, W)."""
    batch, channels, height, width = images.shape
    columns = np.arange(width)
    columns = (
        np.where(params.mirrored[:, None], width - 1 - columns, columns) + params.left[:, None]
    )
    rows = params.top[:, None] + np.arange(height)
    padded = functional.pad(images, (padding, padding, padding, padding))
    stride = width + 2 * padding
    # One flat gather for each image, with one index for all of its channels.
    across = array_to_device(columns, images.device)[:, None, :]
    flat_index = (array_to_device(rows * stride, images.device)[:, :, None] + across).view(
        batch, 1, -1
    )
    flat = padded.flatten(2).gather(2, flat_index.expand(-1, channels, -1))
    return flat.view(batch, channels, height, width)


def resized_crop(images: Tensor, boxes: ResizedCropParams) -> Tensor:
    """Stretch the boxes of ``images`` (B, C, H, W) to (H, W), bilinear, corners not aligned.

    A box is never larger than its image, so no antialiasing is needed.
    """
    _, _, height, width = images.shape
    rows = _interpolation_index(
        boxes.top, boxes.height, height, np.zeros_like(boxes.mirrored), images.device
    )
    columns = _interpolation_index(boxes.left, boxes.width, width, boxes.mirrored, images.device)
    # Copying lines is many times faster than copying pixels, so columns are transposed to lines.
    tall = _blend(images, rows, torch.int16).transpose(2, 3)  # values times 128
    stretched = _blend(tall.contiguous(), columns, torch.int32)  # and times 128 again
    stretched = stretched.add_(1 << 13).bitwise_right_shift_(14).to(torch.uint8)
    return stretched.transpose(2, 3).contiguous()


class _InterpolationIndex(NamedTuple):
    """For each output position of a line: its two source positions and the weight of the second."""

    low: Tensor  # (B, S)
    high: Tensor  # (B, S)
    share: Tensor  # (B, S) int16 in 0..127: weight of ``high`` in 128ths


def _interpolation_index(
    start: Ints, length: Ints, size: int, mirrored: NDArray[np.bool_], device: torch.device
) -> _InterpolationIndex:
    positions = np.arange(size)
    positions = np.where(mirrored[:, None], size - 1 - positions, positions)
    longest = (length - 1)[:, None]
    # Rounded to 128ths: with 256ths a blended byte would not fit into 16 bits.
    offsets = ((2 * positions + 1) * length[:, None] * 128 // size - 127) >> 1
    offsets = np.clip(offsets, 0, longest * 128)
    low = offsets >> 7
    high = np.minimum(low + 1, longest)
    lines = (low + start[:, None], high + start[:, None], (offsets & 127).astype(np.int16))
    return _InterpolationIndex(*(array_to_device(line, device) for line in lines))


def _blend(values: Tensor, lines_between: _InterpolationIndex, dtype: torch.dtype) -> Tensor:
    """Blend lines of ``values`` (B, C, R, L) to (B, C, S, L), times 128, as ``dtype``.

    Bytes times 128 and their differences fit into int16; values that were blended once do not.
    """
    batch, channels, height, width = values.shape
    lines = values.reshape(-1, width)
    first = torch.arange(batch * channels, device=values.device).view(batch, channels, 1) * height
    low = lines.index_select(0, (first + lines_between.low[:, None]).flatten()).to(dtype)
    high = lines.index_select(0, (first + lines_between.high[:, None]).flatten()).to(dtype)
    share = lines_between.share[:, None].expand(-1, channels, -1).reshape(-1, 1)
    # In place, because allocating memory would take longer than the arithmetic.
    high.sub_(low).mul_(share)
    return low.mul_(128).add_(high).view(batch, channels, -1, width)


def affine(images: Tensor, matrices: Floats) -> Tensor:
    """Transform ``images`` (B, C, H, W) by inverse maps (B, 2, 3); outside the image is 0.

    A map takes a pixel of the result, (x, y) in pixels from the center, to a position in the
    image; the nearest pixel there becomes the result.
    """
    batch, channels, height, width = images.shape
    device = images.device
    # In half pixels from the center, so that every coordinate is an integer.
    x = (2 * torch.arange(width, dtype=torch.int32, device=device) + 1 - width)[None, None, :]
    y = (2 * torch.arange(height, dtype=torch.int32, device=device) + 1 - height)[None, :, None]
    scaled = np.rint(matrices * (1 << _FRACTION) * np.array([1, 1, 2])).astype(np.int32)
    a, b, c, d, e, f = array_to_device(scaled, device).view(batch, 6, 1, 1).unbind(1)
    column = (a * x + b * y + c + (width << _FRACTION)) >> (_FRACTION + 1)
    row = (d * x + e * y + f + (height << _FRACTION)) >> (_FRACTION + 1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat_index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).to(torch.int64)
    flat = images.flatten(2).gather(2, flat_index.view(batch, 1, -1).expand(-1, channels, -1))
    return flat.view(images.shape) * inside[:, None]


def cutout(images: Tensor, ids: Ints, augmentation: Cutout, *, seed: int, epoch: int) -> Tensor:
    """Fill a square of each of ``images`` (B, C, H, W) with its mean color."""
    _, _, height, width = images.shape
    key = derive_key(seed, _CUTOUT_STREAM, epoch)
    size = augmentation.size or max(1, height // 4)
    covered = uniform(random_bits(key, ids, 2)) < augmentation.probability
    top = bounded_integers(random_bits(key, ids, 0), height) - size // 2
    left = bounded_integers(random_bits(key, ids, 1), width) - size // 2
    mask = box_mask(images, (top, left, np.where(covered, size, 0), np.where(covered, size, 0)))
    pixels = height * width
    total = images.sum(dim=(2, 3), keepdim=True, dtype=torch.int64)
    mean = torch.div(2 * total + pixels, 2 * pixels, rounding_mode="floor").to(torch.uint8)
    return torch.where(mask, mean, images)


def box_mask(images: Tensor, boxes: tuple[Ints, Ints, Ints, Ints]) -> Tensor:
    """Return (B, 1, H, W) bool: inside the image's box (top, left, height, width), each (B,)."""
    _, _, height, width = images.shape
    top, left, tall, wide = (box[:, None] for box in boxes)
    y, x = np.arange(height), np.arange(width)
    rows = array_to_device((y >= top) & (y < top + tall), images.device)
    columns = array_to_device((x >= left) & (x < left + wide), images.device)
    return rows[:, None, :, None] & columns[:, None, None, :]
