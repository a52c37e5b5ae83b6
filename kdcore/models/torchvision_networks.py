"""Classification networks of torchvision, which is imported only when one of them is used."""

from typing import Any

import torch
from torch import nn

from kdcore.schema.catalog import Normalization

_LIBRARY_LICENSE = "BSD-3-Clause"
_SWAG_LICENSE = "CC-BY-NC-4.0"
# Auxiliary heads would return more than logits; without init_weights torchvision warns.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
_HALF_NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def names() -> list[str]:
    """Return all names, sorted, without ``torchvision/``."""
    from torchvision import models

    return sorted(models.list_models(module=models))


def has(name: str) -> bool:
    """Return whether torchvision has a classification network of this name."""
    return name in names()


def family(name: str) -> str:
    """Return torchvision's module of the network."""
    from torchvision import models

    return str(models.get_model_builder(name).__module__).rpartition(".")[2]


def pretrained_weights(name: str) -> list[Any]:
    """Return the published weights of a network, the default first."""
    from torchvision import models

    known = models.get_model_weights(name)
    return sorted(known, key=lambda entry: entry is not known.DEFAULT)


def class_names_of(weights: str) -> tuple[str, ...]:
    """Return the names of the classes of published weights, in the order of the logits."""
    from torchvision import models

    return tuple(models.get_weight(weights).meta["categories"])


def reference_size(name: str) -> int:
    """Return the side in pixels of the images that the network is made for."""
    return input_size_of(pretrained_weights(name)[0])


def input_size_of(published: Any) -> int:
    """Return the side in pixels of the images that the weights were trained on."""
    return int(published.transforms().crop_size[0])


def normalization_of(name: str, published: Any) -> Normalization:
    """Return the normalization of pixels in 0..1 for published weights."""
    if name in _OPTIONS:
        # A layer inside these networks undoes ImageNet's normalization in favor of this one.
        return _HALF_NORMALIZATION
    transforms = published.transforms()
    return Normalization(mean=tuple(transforms.mean), std=tuple(transforms.std))


def license_of(published: Any) -> str:
    """Return torchvision's license, or SWAG's for the weights that name a license."""
    return _SWAG_LICENSE if "license" in published.meta else _LIBRARY_LICENSE


def make(name: str, *, num_classes: int, in_channels: int, input_size: int) -> nn.Module:
    """Build the network with fresh weights. Raises torchvision's exception for a bad size."""
    options = (
        {"num_classes": num_classes} | size_options(name, input_size) | logits_only_options(name)
    )
    network = _construct(name, options)
    if in_channels != 3:
        _set_in_channels(network, in_channels)
    return network


def size_options(name: str, input_size: int) -> dict[str, Any]:
    """Return the options of networks whose weights depend on the size of the images."""
    if name.startswith("vit_"):
        return {"image_size": input_size}
    return {"input_size": (input_size, input_size)} if name.startswith("maxvit") else {}


def logits_only_options(name: str) -> dict[str, Any]:
    """Return the options with which the network returns logits alone."""
    return dict(_OPTIONS.get(name, {}))


def _construct(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    try:
        network: nn.Module = models.get_model(name, weights=None, **options)
    except NotImplementedError:
        # RegNet computes widths with tensors, which have no values on the meta device.
        with torch.device("cpu"):
            network = models.get_model(name, weights=None, **options)
        network = network.to("meta")
    return network


def _set_in_channels(network: nn.Module, in_channels: int) -> None:
    """Reduce the first convolution to ``in_channels``, with the weights that torchvision drew."""
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stem.in_channels = in_channels
    stem.weight = nn.Parameter(stem.weight.detach()[:, :in_channels].clone())
