"""Match a checkpoint's names and shapes with an architecture's, and explain differences."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcore.models.factory import build
from kdcore.models.registry import ENTRIES
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.catalog import architectures

_PREFIXES = ("module.", "_orig_mod.", "model.", "student.")
_STUDENT_PREFIXES = ("module.student.", "student.")
BATCH_COUNTER = "num_batches_tracked"
"""A counter of batch norms that old checkpoints lack; it may be missing, because it is not used."""
_DEFAULT_INPUT_SIZE = 32
"""Input size in pixels of a network outside the catalog."""


class TargetNetwork(NamedTuple):
    """Names and shapes that a checkpoint must have."""

    architecture: str
    num_classes: int
    in_channels: int
    tensors: dict[str, Tensor]
    """By name, on the meta device."""
    parameters: frozenset[str]
    classifier: str
    """Name of the last layer's weight (num_classes, D)."""


def target_network(
    architecture: str, num_classes: int, tensors: Mapping[str, Tensor]
) -> TargetNetwork:
    """Return the target, with the input channels of the checkpoint's first convolution."""
    rgb = _build_target(architecture, num_classes, 3)
    first = next(name for name, tensor in rgb.tensors.items() if tensor.ndim == 4)
    first_weight = tensors.get(first)
    if first_weight is None or first_weight.ndim != 4 or first_weight.shape[1] == 3:
        return rgb
    if first_weight.shape[1] != 1:
        raise UserError(
            "checkpoint_invalid",
            f"the checkpoint takes images of {first_weight.shape[1]} channels, not of 1 or 3",
        )
    return _build_target(architecture, num_classes, 1)


def strip_prefixes(tensors: dict[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Remove prefixes that wrappers add to all names, such as ``module.``.

    A checkpoint of a distiller has student and teacher; the student is used.
    """
    for prefix in _STUDENT_PREFIXES:
        students = {name: t for name, t in tensors.items() if name.startswith(prefix)}
        if students:
            tensors = students
            break
    for _ in range(len(_PREFIXES)):
        for prefix in _PREFIXES:
            if not any(n in expected for n in tensors) and _all_start(tensors, prefix):
                tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return tensors


def check_tensors(tensors: Mapping[str, Tensor], target: TargetNetwork) -> None:
    """Compare names and shapes with the target. Raises :class:`UserError` with every difference."""
    items = differences(tensors, target.tensors)
    if not items:
        return
    name, classes = target.architecture, target.num_classes
    head = tensors.get(target.classifier)
    if head is not None and head.ndim in (2, 4) and head.shape[0] != classes:
        other = _build_target(name, head.shape[0], target.in_channels)
        if not differences(tensors, other.tensors):
            raise UserError(
                "checkpoint_invalid",
                f"the checkpoint is a {name} of {head.shape[0]} classes, not of {classes}",
                hint=f"set num_classes to {head.shape[0]}",
                items=items,
            )
    fitting = _matching_architecture(tensors, target)
    raise UserError(
        "checkpoint_invalid",
        f"the checkpoint is not a {name}: {len(items)} of its tensors are missing, unexpected or "
        "of another shape",
        hint=f"its names and shapes match {fitting}" if fitting else None,
        items=items,
    )


def differences(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[ErrorDetail]:
    """Return an item for each name that is missing, unexpected or of another shape."""
    missing = [
        error_detail(name, f"is missing; expected {_shape(tensor)}")
        for name, tensor in expected.items()
        if name not in tensors and not name.endswith(BATCH_COUNTER)
    ]
    unexpected = [
        error_detail(name, f"is unexpected, of shape {_shape(tensor)}")
        for name, tensor in tensors.items()
        if name not in expected
    ]
    misshaped = [
        error_detail(name, f"expected {_shape(tensor)}, found {_shape(tensors[name])}")
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    return missing + unexpected + misshaped


def _build_target(architecture: str, num_classes: int, in_channels: int) -> TargetNetwork:
    entry = architectures().get(architecture)
    with torch.device("meta"):
        # At the reference size, because some networks have weights for every position.
        network: nn.Module = build(
            architecture,
            num_classes=num_classes,
            in_channels=in_channels,
            input_size=entry.input_size if entry else _DEFAULT_INPUT_SIZE,
        )
    heads = [
        name for name, module in network.named_modules() if _out_channels(module) == num_classes
    ]
    return TargetNetwork(
        architecture=architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        tensors=network.state_dict(),
        parameters=frozenset(name for name, _ in network.named_parameters()),
        classifier=f"{heads[-1]}.weight",
    )


def _out_channels(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _matching_architecture(tensors: Mapping[str, Tensor], target: TargetNetwork) -> str | None:
    """Return the CIFAR architecture that fits the checkpoint, with its classes, or None."""
    for name in ENTRIES:
        other = _build_target(name, target.num_classes, target.in_channels)
        head = tensors.get(other.classifier)
        if head is not None and head.ndim in (2, 4) and head.shape[0] != target.num_classes:
            other = _build_target(name, head.shape[0], target.in_channels)
        if not differences(tensors, other.tensors):
            return f"{name} of {other.num_classes} classes"
    return None


def _all_start(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
