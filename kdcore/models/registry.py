"""Every architecture by name: CIFAR's are listed here, the others by torchvision and timm."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from kdcore.models import timm_networks, torchvision_networks
from kdcore.models.cifar import mobilenet_v2, resnet, resnet50, shuffle_v1, shuffle_v2, vgg, wrn
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import (
    PROGRAM_FORMATS,
    Normalization,
    architectures,
    similar_architectures,
)

_LIBRARIES = {"torchvision": torchvision_networks, "timm": timm_networks}
_LIBRARY_ERRORS = (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError)
"""What the libraries raise for a network that cannot be built for a size."""
CIFAR100_NORMALIZATION = Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
"""Mean and standard deviation of CIFAR-100's training images, as published checkpoints expect."""
MODULE_PREFIX = "module/"
"""Of the names of networks that a Python caller passed as objects."""
NetworkFactory = Callable[[int, int], nn.Module]
"""Builds a network from num_classes and in_channels."""


class ArchitectureEntry(NamedTuple):
    """How to build one architecture, and its facts that cannot be measured."""

    make: NetworkFactory
    family: str
    min_input_size: int
    paper: str
    input_size: int = 32
    num_classes: int = 100
    """Classes of the reference network in the catalog."""
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


def build_architecture(
    name: str, *, num_classes: int, in_channels: int, input_size: int
) -> nn.Module:
    """Build a network that is not derived; :func:`kdcore.models.build` describes the arguments."""
    _check_arguments(name, num_classes, in_channels, input_size)
    if name in ENTRIES:
        return ENTRIES[name].make(num_classes, in_channels)
    library, _, library_name = name.partition("/")
    try:
        network: nn.Module = _LIBRARIES[library].make(
            library_name, num_classes=num_classes, in_channels=in_channels, input_size=input_size
        )
    except _LIBRARY_ERRORS as error:
        raise _build_error(
            f"{name} cannot be built for images of {input_size} pixels and {in_channels} "
            f"channels: {error}"
        ) from error
    return network


def _check_arguments(name: str, num_classes: int, in_channels: int, input_size: int) -> None:
    library, _, library_name = name.partition("/")
    if name in PROGRAM_FORMATS:
        raise _build_error(f"{name} is a network from a file, which is loaded and never built")
    if name not in ENTRIES and name.startswith(MODULE_PREFIX):
        raise _build_error(
            f"{name} is a network that was passed to distill() as an object, in another process: "
            "build it in Python and load its student.safetensors, or pass the object again"
        )
    if name not in ENTRIES and not (
        library in _LIBRARIES and _LIBRARIES[library].has(library_name)
    ):
        similar = " or ".join(similar_architectures(name))
        suggestion = (
            f"did you mean {similar}?"
            if similar
            else "names begin with cifar/, timm/, torchvision/"
        )
        raise _build_error(f"there is no architecture {name!r}; {suggestion}")
    if in_channels not in (1, 3):
        raise _build_error(f"{name} takes images of 1 or 3 channels, not of {in_channels}")
    if num_classes < 1:
        raise _build_error(f"{name} needs one class or more, not {num_classes}")
    entry = ENTRIES.get(name) or architectures().get(name)
    if entry is not None and input_size < entry.min_input_size:
        raise _build_error(
            f"{name} takes images of {entry.min_input_size} pixels or more, not of {input_size}"
        )


def _build_error(message: str) -> UserError:
    return UserError("student_incompatible", message)
