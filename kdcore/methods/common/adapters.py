"""Adapters: small networks from a student's map to the teacher's shape, trained with it."""

import itertools

from torch import Tensor, nn

SLOPE = 0.1
"""Slope of the leaky ReLU."""


def channel_adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """1 x 1 convolution + batch norm to the teacher's channels; identity where they are equal."""
    if student.shape[1] == teacher.shape[1]:
        return nn.Identity()
    return pointwise(student.shape[1], teacher.shape[1])


def pointwise(in_channels: int, out_channels: int) -> nn.Sequential:
    """1 x 1 convolution + batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
    )


def regressor(student: Tensor, teacher: Tensor) -> nn.Sequential:
    """Convolution + batch norm + ReLU from the student's map (B, C, H, W) to the teacher's shape.

    3 x 3 and strided where the student's map is larger by an integer factor. Otherwise 1 x 1, and
    the caller pools the larger of the two maps.
    """
    down = (student.shape[2] // teacher.shape[2], student.shape[3] // teacher.shape[3])
    divides = student.shape[2:] == (down[0] * teacher.shape[2], down[1] * teacher.shape[3])
    kernel, stride = (3, down) if divides and down != (1, 1) else (1, (1, 1))
    return nn.Sequential(
        nn.Conv2d(
            student.shape[1], teacher.shape[1], kernel, stride, padding=kernel // 2, bias=False
        ),
        nn.BatchNorm2d(teacher.shape[1]),
        nn.ReLU(),
    )


def mean_regressor(student: Tensor, teacher: Tensor) -> nn.Sequential:
    """Three bias-free 1 x 1 convolutions with ReLU between, to the teacher's channels."""
    wide = teacher.shape[1]
    return nn.Sequential(
        nn.Conv2d(student.shape[1], wide, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 1, bias=False),
    )


def convolutions(*channels: int) -> nn.Sequential:
    """3 x 3 convolutions through ``channels``, each with batch norm and leaky ReLU."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(SLOPE),
        ]
    return nn.Sequential(*layers)
