"""Color operations on batches of uint8 images (B, C, H, W), C = 1 or 3, in integer arithmetic.

For images of one channel, the gray version of an image is the image itself.
"""

import torch
from torch import Tensor

from kdcore.data.transfer import to_device

_FACTOR_SCALE = 1024
"""Factors are multiples of 1 / 1024."""


def autocontrast(images: Tensor) -> Tensor:
    """Stretch the values of each channel of each image to 0..255; a constant channel stays."""
    flat = images.flatten(2)
    low = flat.amin(2)[..., None, None].to(torch.int32)
    high = flat.amax(2)[..., None, None].to(torch.int32)
    range_ = (high - low).clamp_min(1)
    stretched = torch.div((images - low) * 255, range_, rounding_mode="floor")
    return torch.where(high > low, stretched, images.to(torch.int32)).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image by a table of 256 values."""
    values = images.flatten(2).to(torch.int64)
    ones = torch.ones_like(values)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, values, ones)
    # All pixels except those of the brightest value, divided into 255 steps.
    brightest = counts.gather(2, values.amax(2, keepdim=True))
    step = torch.div(values.shape[2] - brightest, 255, rounding_mode="floor")
    darker = counts.cumsum(2) - counts
    table = torch.div(darker + step // 2, step.clamp_min(1), rounding_mode="floor").clamp(0, 255)
    same = torch.arange(256, device=images.device).expand_as(table)
    table = torch.where(step > 0, table, same)
    return table.gather(2, values).to(torch.uint8).view(images.shape)


def posterize(images: Tensor, bits: int) -> Tensor:
    """Keep the upper ``bits`` of each value."""
    return images & ((0xFF << (8 - bits)) & 0xFF)


def solarize(images: Tensor, threshold: int) -> Tensor:
    """Invert all values of at least ``threshold``; 256 inverts none."""
    return torch.where(images.to(torch.int32) >= threshold, 255 - images, images)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each image with its ``factor``; ``factor`` is (B,)."""
    values = images.to(torch.int32)
    return _blend(torch.zeros_like(values), values, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the difference to the mean gray by ``factor`` (B,); 0 gives a constant gray."""
    pixels = images.shape[2] * images.shape[3]
    total = to_gray(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    mean = torch.div(2 * total + pixels, 2 * pixels, rounding_mode="floor").to(torch.int32)
    return _blend(mean, images.to(torch.int32), factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the difference to the gray version by ``factor`` (B,); 0 gives the gray version."""
    return _blend(to_gray(images), images.to(torch.int32), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the difference to a smoothed version by ``factor`` (B,); border pixels stay."""
    values = images.to(torch.int32)
    smooth = values.clone()
    if min(images.shape[2:]) > 2:
        rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
        around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
        # The kernel is 5 in the center and 1 in its eight neighbors.
        weighted = around + 4 * values[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = torch.div(weighted + 6, 13, rounding_mode="floor")
    return _blend(smooth, values, factor)


def to_gray(images: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) int32 of ITU-R 601-2, rounded."""
    values = images.to(torch.int32)
    if images.shape[1] == 1:
        return values
    red, green, blue = values.unbind(1)
    return ((red * 19_595 + green * 38_470 + blue * 7_471 + (1 << 15)) >> 16)[:, None]


def _blend(base: Tensor, values: Tensor, factor: Tensor) -> Tensor:
    share = to_device((factor * _FACTOR_SCALE).round().to(torch.int32), values.device)[
        :, None, None, None
    ]
    mixed = (base * (_FACTOR_SCALE - share) + values * share + _FACTOR_SCALE // 2) >> 10
    return mixed.clamp(0, 255).to(torch.uint8)
