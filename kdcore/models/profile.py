"""Profile an architecture on the meta device: cost, feature layers, smallest input."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from kdcore.models import feature_hooks, flops, timm_networks, torchvision_networks
from kdcore.models.registry import ENTRIES
from kdcore.schema.catalog import Architecture, Normalization, Tap

CHANNELS = 3
_CLASSES = 1000
_SMALL_SIZES = (8, 16, 28, 32, 64, 96, 128)
"""Sides in pixels to try; a network that takes none of them needs its reference size."""
_LIBRARY_ERRORS = (
    AssertionError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

SizedFactory = Callable[[int], nn.Module]
"""Builds the reference network for images of a side in pixels."""


class ArchitectureMetadata(NamedTuple):
    """Facts of an architecture that cannot be measured."""

    make: SizedFactory
    family: str
    input_size: int
    min_input_size: int | None
    """None is determined by trying sizes."""
    size_dependent: bool
    """Whether the network depends on the side of the images."""
    num_classes: int
    normalization: Normalization
    license: str
    paper: str | None = None
    pretrained: tuple[str, ...] = ()


def profile_architecture(name: str, max_params: float = float("inf")) -> Architecture | None:
    """Return the catalog entry of ``name``; None for more than ``max_params`` parameters.

    Raises the library's exception for a network that does not classify images of 3 channels.
    """
    metadata = _METADATA[name.partition("/")[0]](name)
    with torch.device("meta"):
        network = metadata.make(metadata.input_size)
        if flops.num_params(network) > max_params:
            return None
        image = torch.empty(1, CHANNELS, metadata.input_size, metadata.input_size)
        with flops.count_flops(network) as counter:
            points = feature_hooks.find_hook_points(network, image)
        smallest = metadata.min_input_size or _min_input_size(metadata, network)
    if not counter.get_total_flops():
        raise ValueError("the network has no multiplications")
    return Architecture(
        name=name,
        family=metadata.family,
        num_params=flops.num_params(network),
        macs=int(counter.get_total_flops()) // 2,
        input_size=metadata.input_size,
        min_input_size=smallest,
        in_channels=CHANNELS,
        num_classes=metadata.num_classes,
        pooled_features=_pooled_features(network, points),
        taps=tuple(
            Tap(path=path, shape=shape)
            for path, shape in zip(points.maps, points.shapes, strict=True)
        ),
        normalization=metadata.normalization,
        license=metadata.license,
        paper=metadata.paper,
        pretrained=metadata.pretrained,
    )


def _pooled_features(network: nn.Module, points: feature_hooks.HookPoints) -> int | None:
    if points.classifier is None:
        return None
    layer: Any = network.get_submodule(points.classifier)
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def _min_input_size(metadata: ArchitectureMetadata, network: nn.Module) -> int:
    """Return the smallest tried side for which the network returns logits."""
    network.eval()
    for size in _SMALL_SIZES:
        try:
            fitting = metadata.make(size).eval() if metadata.size_dependent else network
            with torch.no_grad():
                logits = fitting(torch.empty(1, CHANNELS, size, size))
        except _LIBRARY_ERRORS:
            continue
        if size < metadata.input_size and logits.shape == (1, metadata.num_classes):
            return size
    return metadata.input_size


def _cifar(name: str) -> ArchitectureMetadata:
    entry = ENTRIES[name]
    return ArchitectureMetadata(
        make=lambda _: entry.make(entry.num_classes, CHANNELS),
        family=entry.family,
        input_size=entry.input_size,
        min_input_size=entry.min_input_size,
        size_dependent=False,
        num_classes=entry.num_classes,
        normalization=entry.normalization,
        license=entry.license,
        paper=entry.paper,
    )


def _torchvision(name: str) -> ArchitectureMetadata:
    library, bare = torchvision_networks, name.partition("/")[2]
    weights = library.pretrained_weights(bare)
    return ArchitectureMetadata(
        make=lambda size: library.make(
            bare, num_classes=_CLASSES, in_channels=CHANNELS, input_size=size
        ),
        family=library.family(bare),
        input_size=library.reference_size(bare),
        min_input_size=None,
        size_dependent=bool(library.size_options(bare, 1)),
        num_classes=_CLASSES,
        normalization=library.normalization_of(bare, weights[0]),
        license=library.license_of(weights[0]),
        pretrained=tuple(str(entry) for entry in weights),
    )


def _timm(name: str) -> ArchitectureMetadata:
    library, bare = timm_networks, name.partition("/")[2]
    cfg = library.default_cfg(bare)
    return ArchitectureMetadata(
        make=lambda size: library.make(
            bare, num_classes=_CLASSES, in_channels=CHANNELS, input_size=size
        ),
        family=library.family(bare),
        input_size=library.reference_size(bare),
        min_input_size=None,
        size_dependent=bool(cfg and cfg.fixed_input_size),
        num_classes=_CLASSES,
        normalization=library.normalization_of(cfg),
        license=library.license_of(cfg),
        pretrained=tuple(library.pretrained_cfgs(bare)),
    )


_METADATA: dict[str, Callable[[str], ArchitectureMetadata]] = {
    "cifar": _cifar,
    "torchvision": _torchvision,
    "timm": _timm,
}
