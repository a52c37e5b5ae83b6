"""Which architectures there are: one entry each, in the order that lists show them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from kdcore.models import cifar_resnet
from kdcore.spec.catalogue import Normalisation

CIFAR100 = Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
"""Mean and deviation of CIFAR-100's training images, as its published checkpoints expect them."""


class Entry(NamedTuple):
    """How to build one architecture, and what cannot be measured of it."""

    make: Callable[[int, int], nn.Module]
    """From num_classes and in_channels."""
    family: str
    input_size: int
    min_input_size: int
    num_classes: int
    """Of the reference network that the catalogue measures."""
    normalisation: Normalisation
    licence: str
    paper: str


def _cifar_resnet(depth: int, widths: tuple[int, int, int, int]) -> Entry:
    def make(num_classes: int, in_channels: int) -> nn.Module:
        return cifar_resnet.CifarResNet(depth, widths, num_classes, in_channels)

    return Entry(
        make=make,
        family="resnet",
        input_size=32,
        min_input_size=cifar_resnet.MIN_INPUT_SIZE,
        num_classes=100,
        normalisation=CIFAR100,
        licence="BSD-2-Clause",
        paper="https://arxiv.org/abs/1512.03385",
    )


ENTRIES: dict[str, Entry] = {
    **{
        f"cifar/resnet{depth}": _cifar_resnet(depth, cifar_resnet.PLAIN)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{f"cifar/resnet{depth}x4": _cifar_resnet(depth, cifar_resnet.WIDE) for depth in (8, 32)},
}
