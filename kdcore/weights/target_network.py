"""The names and shapes that a checkpoint of an architecture must have."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcore.models.factory import build
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import architectures

BATCH_COUNTER = "num_batches_tracked"
"""A counter of batch norms that old checkpoints lack; it may be missing, because it is not used."""
_DEFAULT_INPUT_SIZE = 32
"""Input size in pixels of a network outside the catalog."""
_DEFAULT_CLASSES = 1000
_MIN_CLASSES, _MAX_CLASSES = 2, 100_000


class TargetNetwork(NamedTuple):
    """Names and shapes that a checkpoint must have."""

    architecture: str
    num_classes: int
    in_channels: int
    tensors: dict[str, Tensor]
    """By name, on the meta device."""
    parameters: frozenset[str]
    classifier: str
    """Name of the last layer's weight (num_classes, D); empty without one."""
    stem: str
    """Name of the first convolution's weight (N, in_channels, H, W); empty without one."""

    @property
    def required_names(self) -> frozenset[str]:
        """Names that a checkpoint must have: all but the counters of batch norms."""
        return frozenset(name for name in self.tensors if not name.endswith(BATCH_COUNTER))


def build_target(
    architecture: str, num_classes: int | None = None, in_channels: int = 3
) -> TargetNetwork:
    """Return the names and shapes of an architecture; None means any number of classes."""
    entry = architectures().get(architecture)
    classes = num_classes or (entry.num_classes if entry else _DEFAULT_CLASSES)
    with torch.device("meta"):
        # At the reference size, because some networks have weights for every position.
        network: nn.Module = build(
            architecture,
            num_classes=classes,
            in_channels=in_channels,
            input_size=entry.input_size if entry else _DEFAULT_INPUT_SIZE,
        )
    tensors = network.state_dict()
    return TargetNetwork(
        architecture=architecture,
        num_classes=classes,
        in_channels=in_channels,
        tensors=tensors,
        parameters=frozenset(name for name, _ in network.named_parameters()),
        classifier=_find_classifier(network, classes),
        stem=next((name for name, tensor in tensors.items() if tensor.ndim == 4), ""),
    )


def fit_target(
    target: TargetNetwork, tensors: Mapping[str, Tensor], num_classes: int | None
) -> TargetNetwork:
    """Return the target with the input channels of a checkpoint, and its classes if None.

    Raises :class:`UserError` ``checkpoint_invalid`` for other channels than 1 and 3.
    """
    stem, head = tensors.get(target.stem), tensors.get(target.classifier)
    channels = int(stem.shape[1]) if stem is not None and stem.ndim == 4 else 3
    if channels not in (1, 3):
        raise UserError(
            "checkpoint_invalid",
            f"the checkpoint takes images of {channels} channels, not of 1 or 3",
        )
    classes = num_classes
    if classes is None and head is not None and head.ndim in (2, 4):
        classes = _num_outputs(head)
    classes = classes or target.num_classes
    if (classes, channels) == (target.num_classes, target.in_channels):
        return target
    return build_target(target.architecture, classes, channels)


def _find_classifier(network: nn.Module, num_classes: int) -> str:
    layers = [
        f"{name}.weight"
        for name, module in network.named_modules()
        if _out_channels(module) == num_classes
    ]
    matrices = [
        name
        for name, tensor in network.state_dict().items()
        if tensor.ndim in (2, 4) and tensor.shape[0] == num_classes
    ]
    return [*layers[-1:], *matrices[-1:], ""][0]


def _num_outputs(head: Tensor) -> int:
    outputs = int(head.shape[0])
    if not _MIN_CLASSES <= outputs <= _MAX_CLASSES:
        raise UserError(
            "checkpoint_invalid",
            f"the last layer has {outputs} outputs; {_MIN_CLASSES} to {_MAX_CLASSES} classes are "
            "possible",
        )
    return outputs


def _out_channels(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None
