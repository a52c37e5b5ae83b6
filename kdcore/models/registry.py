"""Which CIFAR networks there are: one entry each, by name."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from kdcore.models.cifar import mobilenet_v2, resnet, resnet50, shuffle_v1, shuffle_v2, vgg, wrn
from kdcore.schema.catalog import Normalization

CIFAR100_NORMALIZATION = Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
"""Mean and deviation of CIFAR-100's training images, as its published checkpoints expect them."""
NetworkFactory = Callable[[int, int], nn.Module]
"""From num_classes and in_channels."""


class ArchitectureEntry(NamedTuple):
    """How to build one architecture, and what cannot be measured of it."""

    make: NetworkFactory
    family: str
    min_input_size: int
    paper: str
    input_size: int = 32
    num_classes: int = 100
    """Of the reference network that the catalog measures."""
    normalization: Normalization = CIFAR100_NORMALIZATION
    license: str = "BSD-2-Clause"


def _resnet(depth: int, widths: tuple[int, int, int, int]) -> ArchitectureEntry:
    def make(num_classes: int, in_channels: int) -> nn.Module:
        return resnet.CifarResNet(depth, widths, num_classes, in_channels)

    return ArchitectureEntry(
        make, "resnet", resnet.MIN_INPUT_SIZE, "https://arxiv.org/abs/1512.03385"
    )


def _wrn(depth: int, width: int) -> ArchitectureEntry:
    def make(num_classes: int, in_channels: int) -> nn.Module:
        return wrn.WideResNet(depth, width, num_classes, in_channels)

    return ArchitectureEntry(make, "wrn", wrn.MIN_INPUT_SIZE, "https://arxiv.org/abs/1605.07146")


def _vgg(depth: int) -> ArchitectureEntry:
    def make(num_classes: int, in_channels: int) -> nn.Module:
        return vgg.CifarVgg(depth, num_classes, in_channels)

    return ArchitectureEntry(make, "vgg", vgg.MIN_INPUT_SIZE, "https://arxiv.org/abs/1409.1556")


ENTRIES: dict[str, ArchitectureEntry] = {
    **{f"cifar/resnet{n}": _resnet(n, resnet.PLAIN) for n in (8, 14, 20, 32, 44, 56, 110)},
    **{f"cifar/resnet{n}x4": _resnet(n, resnet.WIDE) for n in (8, 32)},
    "cifar/ResNet50": ArchitectureEntry(
        resnet50.CifarResNet50,
        "resnet",
        resnet50.MIN_INPUT_SIZE,
        "https://arxiv.org/abs/1512.03385",
    ),
    **{f"cifar/wrn_{depth}_{width}": _wrn(depth, width) for depth in (16, 40) for width in (1, 2)},
    **{f"cifar/vgg{n}": _vgg(n) for n in (8, 11, 13, 16, 19)},
    "cifar/MobileNetV2": ArchitectureEntry(
        mobilenet_v2.CifarMobileNetV2,
        "mobilenet",
        mobilenet_v2.MIN_INPUT_SIZE,
        "https://arxiv.org/abs/1801.04381",
    ),
    "cifar/ShuffleV1": ArchitectureEntry(
        shuffle_v1.CifarShuffleNet,
        "shufflenet",
        shuffle_v1.MIN_INPUT_SIZE,
        "https://arxiv.org/abs/1707.01083",
    ),
    "cifar/ShuffleV2": ArchitectureEntry(
        shuffle_v2.CifarShuffleNetV2,
        "shufflenet",
        shuffle_v2.MIN_INPUT_SIZE,
        "https://arxiv.org/abs/1807.11164",
    ),
}
