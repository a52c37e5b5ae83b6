"""What one architecture is: measured on the meta device, without computing a single pixel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from kdcore.models import feature_hooks, flops, timm_networks, torchvision_networks
from kdcore.models.registry import ENTRIES
from kdcore.schema.catalog import Architecture, Normalisation, Tap

CHANNELS = 3
_CLASSES = 1000
_SMALL_SIZES = (8, 16, 28, 32, 64, 96, 128)
"""In pixels; what takes none of them is said to take its reference size at least."""
_FAILS = (AssertionError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)

Make = Callable[[int], nn.Module]
"""The reference network for images of a side."""


class Facts(NamedTuple):
    """What cannot be measured of an architecture."""

    make: Make
    family: str
    input_size: int
    min_input_size: int | None
    """None is found by trying."""
    sized: bool
    """Whether the network is another one for another side."""
    num_classes: int
    normalisation: Normalisation
    licence: str
    paper: str | None = None
    pretrained: tuple[str, ...] = ()


def measure(name: str, largest: float = float("inf")) -> Architecture | None:
    """One entry; None for a network of more than ``largest`` parameters.

    Raises what the library raises where a network does not classify images of 3 channels.
    """
    facts = _FACTS[name.partition("/")[0]](name)
    with torch.device("meta"):
        network = facts.make(facts.input_size)
        if flops.num_params(network) > largest:
            return None
        image = torch.empty(1, CHANNELS, facts.input_size, facts.input_size)
        with flops.counted(network) as counter:
            points = feature_hooks.find(network, image)
        smallest = facts.min_input_size or _smallest(facts, network)
    if not counter.get_total_flops():
        raise ValueError("the network multiplies nothing")
    return Architecture(
        name=name,
        family=facts.family,
        num_params=flops.num_params(network),
        macs=int(counter.get_total_flops()) // 2,
        input_size=facts.input_size,
        min_input_size=smallest,
        in_channels=CHANNELS,
        num_classes=facts.num_classes,
        pooled_features=_pooled_features(network, points),
        taps=tuple(
            Tap(path=path, shape=shape)
            for path, shape in zip(points.maps, points.shapes, strict=True)
        ),
        normalisation=facts.normalisation,
        licence=facts.licence,
        paper=facts.paper,
        pretrained=facts.pretrained,
    )


def _pooled_features(network: nn.Module, points: feature_hooks.Points) -> int | None:
    if points.classifier is None:
        return None
    layer: Any = network.get_submodule(points.classifier)
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def _smallest(facts: Facts, network: nn.Module) -> int:
    """The smallest of a few sides that the network gives logits for."""
    network.eval()
    for size in _SMALL_SIZES:
        try:
            fitting = facts.make(size).eval() if facts.sized else network
            with torch.no_grad():
                logits = fitting(torch.empty(1, CHANNELS, size, size))
        except _FAILS:
            continue
        if size < facts.input_size and logits.shape == (1, facts.num_classes):
            return size
    return facts.input_size


def _cifar(name: str) -> Facts:
    entry = ENTRIES[name]
    return Facts(
        make=lambda _: entry.make(entry.num_classes, CHANNELS),
        family=entry.family,
        input_size=entry.input_size,
        min_input_size=entry.min_input_size,
        sized=False,
        num_classes=entry.num_classes,
        normalisation=entry.normalisation,
        licence=entry.licence,
        paper=entry.paper,
    )


def _torchvision(name: str) -> Facts:
    library, bare = torchvision_networks, name.partition("/")[2]
    weights = library.weights(bare)
    return Facts(
        make=lambda size: library.make(
            bare, num_classes=_CLASSES, in_channels=CHANNELS, input_size=size
        ),
        family=library.family(bare),
        input_size=library.reference_size(bare),
        min_input_size=None,
        sized=bool(library.sized(bare, 1)),
        num_classes=_CLASSES,
        normalisation=library.normalisation_of(bare, weights[0]),
        licence=library.licence_of(weights[0]),
        pretrained=tuple(str(each) for each in weights),
    )


def _timm(name: str) -> Facts:
    library, bare = timm_networks, name.partition("/")[2]
    cfg = library.default(bare)
    return Facts(
        make=lambda size: library.make(
            bare, num_classes=_CLASSES, in_channels=CHANNELS, input_size=size
        ),
        family=library.family(bare),
        input_size=library.reference_size(bare),
        min_input_size=None,
        sized=bool(cfg and cfg.fixed_input_size),
        num_classes=_CLASSES,
        normalisation=library.normalisation_of(cfg),
        licence=library.licence_of(cfg),
        pretrained=tuple(library.weights(bare)),
    )


_FACTS: dict[str, Callable[[str], Facts]] = {
    "cifar": _cifar,
    "torchvision": _torchvision,
    "timm": _timm,
}
