"""Infer the architecture of a checkpoint from its names and shapes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.models.catalog_tables.shape_index import find_candidates
from kdcore.models.factory import build
from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.asset_info import WeightsChoice
from kdcore.schema.catalog import architectures
from kdcore.weights.checkpoint_reader import LoadedCheckpoint
from kdcore.weights.key_differences import misshaped_names
from kdcore.weights.key_mapping import map_tensors
from kdcore.weights.key_renaming import NamedTensor
from kdcore.weights.target_network import TargetNetwork, build_target, fit_target

_LIBRARY_ORDER = ("cifar", "torchvision", "timm")
_NAME_FIELDS = ("arch", "architecture", "model_name")
"""Where trainings write the name of the architecture; timm writes `arch`."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_MAX_BUILT = 48
"""Candidates that are built, those of most tensors first."""
_BATCH_SIZE = 2
_TOLERANCE = 1e-3
"""Largest difference of two logits that count as equal, relative to the largest logit."""


class InferredArchitecture(NamedTuple):
    """The architecture of a checkpoint."""

    name: str
    notes: tuple[str, ...]
    """Sentences about equal networks of other names."""


def infer_architecture(
    checkpoint: LoadedCheckpoint, named: Sequence[NamedTensor], weights: WeightsChoice | None
) -> InferredArchitecture:
    """Return the architecture that the tensors ``named`` of a checkpoint fit.

    Networks with equal outputs count as one, under torchvision's name before timm's. Several with
    different outputs: the checkpoint's own field, such as timm's ``arch``, decides. Raises
    :class:`UserError` if none fits, or several do: the error lists them.
    """
    name = checkpoint.name
    fitting = fitting_targets(named, weights)
    if not fitting:
        raise UserError(
            "checkpoint_invalid",
            f"the names and shapes in {name} fit no known architecture",
            hint="set architecture, and key_map if its names differ; GET /v1/architectures lists "
            "all; save the weights of one network alone",
            fix_fields=("architecture", "key_map"),
        )
    groups = _group_by_outputs(fitting)
    declared = _declared_name(checkpoint.contents)
    declared_groups = [g for g in groups if any(_bare_name(name) == declared for name in g)]
    if len(declared_groups) == 1:
        groups = declared_groups
    if len(groups) > 1:
        names = [group[0] for group in groups]
        raise UserError(
            "checkpoint_invalid",
            f"the names and shapes in {name} fit {len(names)} architectures, and their outputs do "
            "not show which one it is",
            hint=f"set architecture to one of {', '.join(names)}",
            items=[error_detail(group[0], _describe(group, fitting[group[0]])) for group in groups],
            fix_fields=("architecture",),
        )
    selected, *equal = groups[0]
    notes = [f"the architecture is {selected}, inferred from names and shapes"]
    if equal:
        notes.append(f"{', '.join(equal)}: equal outputs with these weights")
    return InferredArchitecture(selected, ("; ".join(notes),))


def _declared_name(contents: Any) -> str | None:
    """Return the architecture that the checkpoint's metadata name, without library and tag."""
    for field in _NAME_FIELDS:
        value = contents.get(field) if isinstance(contents, dict) else None
        if isinstance(value, str):
            return _bare_name(value).partition(".")[0]
    return None


def _bare_name(name: str) -> str:
    return name.rpartition("/")[2].lower()


def fitting_targets(
    named: Sequence[NamedTensor], weights: WeightsChoice | None = None
) -> dict[str, tuple[TargetNetwork, dict[str, Tensor]]]:
    """Return the architectures that fit completely, by name, with their tensors.

    Only those of most tensors are returned: a smaller network may be a part of a larger one.
    """
    fitting: dict[str, tuple[TargetNetwork, dict[str, Tensor]]] = {}
    num_tensors = 0
    candidates = find_candidates({entry.path: entry.tensor for entry in named})
    built: set[str] = set()
    for candidate in candidates:
        if (fitting and candidate.num_tensors < num_tensors) or len(built) >= _MAX_BUILT:
            break
        if candidate.architecture in built:
            continue
        built.add(candidate.architecture)
        fit = _fit(candidate.architecture, named, weights)
        if fit is not None:
            fitting[candidate.architecture] = fit
            num_tensors = candidate.num_tensors
    return fitting


def _fit(
    architecture: str, named: Sequence[NamedTensor], weights: WeightsChoice | None
) -> tuple[TargetNetwork, dict[str, Tensor]] | None:
    """Return the network and its tensors if they fit completely, else None."""
    reference = build_target(architecture)
    mapping = map_tensors(named, reference, weights)
    if mapping.unexpected or not reference.required_names <= mapping.tensors.keys():
        return None
    target = fit_target(reference, mapping.tensors, None)
    return None if misshaped_names(mapping.tensors, target) else (target, mapping.tensors)


def _group_by_outputs(
    fitting: Mapping[str, tuple[TargetNetwork, dict[str, Tensor]]],
) -> list[list[str]]:
    """Group architectures whose logits are equal on one batch; the preferred name comes first.

    Tensors with broken values make one group: later checks refuse them by name.
    """
    names = sorted(fitting, key=_preference)
    if len(names) == 1 or not all(_are_finite(*fitting[name]) for name in names):
        return [names]
    input_size = architectures()[names[0]].input_size
    groups: list[tuple[Tensor | None, list[str]]] = []
    for name in names:
        logits = _logits(*fitting[name], input_size)
        for reference, group in groups:
            if reference is not None and logits is not None and _close(reference, logits):
                group.append(name)
                break
        else:
            groups.append((logits, [name]))
    return [group for _, group in groups]


def _are_finite(target: TargetNetwork, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether all values are finite, but for counters; True where they cannot be read."""
    values = (tensors[name] for name in target.required_names if name in tensors)
    try:
        return all(bool(torch.isfinite(tensor).all()) for tensor in values)
    except RuntimeError:
        return True  # sparse or cut tensors, which later checks name


def _preference(name: str) -> tuple[int, int, str]:
    library = name.partition("/")[0]
    return _LIBRARY_ORDER.index(library), len(name), name


def _logits(target: TargetNetwork, tensors: Mapping[str, Tensor], size: int) -> Tensor | None:
    """Return logits (B, C) of one random batch of ``size`` pixels, or None for bad weights."""
    images = torch.rand(
        (_BATCH_SIZE, target.in_channels, size, size), generator=torch.Generator().manual_seed(0)
    )
    try:
        network = build(
            target.architecture,
            num_classes=target.num_classes,
            in_channels=target.in_channels,
            input_size=size,
        )
        plain = {
            name: tensors[name].reshape(expected.shape).to(expected.dtype)
            for name, expected in target.tensors.items()
            if name in tensors
        }
        network.load_state_dict(plain, strict=False)
        with torch.inference_mode():
            logits: Tensor = network.eval()(images)
    except (RuntimeError, NotImplementedError, UserError):
        return None  # sparse or cut tensors, which later checks name
    return logits


def _close(one: Tensor, other: Tensor) -> bool:
    """Return whether logits are equal; logits of 0, or not finite, show nothing."""
    largest = float(one.abs().max())
    if one.shape != other.shape or not 0 < largest < math.inf:
        return False
    return bool((one - other).abs().max() <= _TOLERANCE * largest)


def _describe(group: Sequence[str], fit: tuple[TargetNetwork, dict[str, Tensor]]) -> str:
    """Return the parameters and classes of the file, and the names of equal architectures."""
    target, tensors = fit
    num_params = sum(
        tensors[name].numel()
        for name in target.tensors
        if name in tensors and name.rpartition(".")[2] not in _BUFFERS
    )
    equal = f"; equal outputs: {', '.join(group[1:])}" if group[1:] else ""
    return f"{num_params} parameters, {target.num_classes} classes{equal}"
