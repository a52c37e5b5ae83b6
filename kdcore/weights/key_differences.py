"""Explain how a checkpoint's names and shapes differ from an architecture's."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import error_detail
from kdcore.weights.target_network import BATCH_COUNTER, TargetNetwork

_MIN_SIMILARITY = 0.5
_MAX_COMPARED = 200
"""Names of one shape that are compared by similarity; beyond, they are paired in their order."""
_MAX_RULES = 8


class Differences(NamedTuple):
    """How a checkpoint differs from a network."""

    items: list[ErrorDetail]
    """Missing names, each with the most similar unexpected one; other unexpected names; shapes."""
    rename_hint: str | None
    """A ``key_map`` that mends everything, as JSON; None if there is none."""


def compare(
    tensors: Mapping[str, Tensor], unexpected: Mapping[str, Tensor], target: TargetNetwork
) -> Differences:
    """Compare the tensors that have the network's names, and ``unexpected`` others."""
    missing = {
        name: tensor
        for name, tensor in target.tensors.items()
        if name not in tensors and not name.endswith(BATCH_COUNTER)
    }
    pairs = _pair(missing, unexpected)
    items = [
        error_detail(name, f"is missing; expected {_shape(tensor)}{_similar(pairs.get(name))}")
        for name, tensor in missing.items()
    ]
    items += [
        error_detail(name, f"is unexpected, of shape {_shape(tensor)}")
        for name, tensor in unexpected.items()
        if name not in pairs.values()
    ]
    misshaped = misshaped_names(tensors, target)
    items += [
        error_detail(
            name, f"expected {_shape(target.tensors[name])}, found {_shape(tensors[name])}"
        )
        for name in misshaped
    ]
    mends = not misshaped and len(pairs) == len(missing) == len(unexpected)
    return Differences(items, _rename_rules(pairs) if mends and pairs else None)


def misshaped_names(tensors: Mapping[str, Tensor], target: TargetNetwork) -> list[str]:
    """Return the names whose tensors have another shape than the network's; counters may have."""
    return [
        name
        for name, tensor in target.tensors.items()
        if name in tensors
        and tensors[name].shape != tensor.shape
        and not (name.endswith(BATCH_COUNTER) and tensors[name].numel() == 1)
    ]


def _pair(missing: Mapping[str, Tensor], unexpected: Mapping[str, Tensor]) -> dict[str, str]:
    """Pair missing names with unexpected ones of the same shape and last part."""
    by_kind: dict[tuple[object, str], list[str]] = {}
    for name, tensor in unexpected.items():
        by_kind.setdefault(_kind(name, tensor), []).append(name)
    pairs: dict[str, str] = {}
    num_missing = Counter(_kind(name, tensor) for name, tensor in missing.items())
    for name, tensor in missing.items():
        kind = _kind(name, tensor)
        options = by_kind.get(kind, [])
        if not options:
            continue
        best = options[0]
        # Equally many names are in the same order, as layers are.
        if len(options) != num_missing[kind] and len(options) <= _MAX_COMPARED:
            close = difflib.get_close_matches(name, options, 1, _MIN_SIMILARITY)
            if not close:
                continue
            best = close[0]
        pairs[name] = best
        options.remove(best)
        num_missing[kind] -= 1
    return pairs


def _kind(name: str, tensor: Tensor) -> tuple[object, str]:
    return tuple(tensor.shape), name.rpartition(".")[2]


def _similar(name: str | None) -> str:
    return f"; the checkpoint has {name} of the same shape" if name else ""


def _rename_rules(pairs: Mapping[str, str]) -> str | None:
    """Return a ``key_map`` that renames every pair, or None if it would need many rules."""
    rules: dict[str, str] = {}
    for expected, actual in pairs.items():
        new, old = expected.split("."), actual.split(".")
        while new and old and new[-1] == old[-1]:
            new, old = new[:-1], old[:-1]
        pattern = f"^{re.escape('.'.join(old))}\\." if old else "^"
        replacement = f"{'.'.join(new)}." if new else ""
        if rules.setdefault(pattern, replacement) != replacement or len(rules) > _MAX_RULES:
            return None
    for expected, actual in pairs.items():
        renamed = actual
        for pattern, replacement in rules.items():
            renamed = re.sub(pattern, replacement, renamed)
        if renamed != expected:
            return None
    text = ", ".join(f'["{pattern}", "{replacement}"]' for pattern, replacement in rules.items())
    return f'"key_map": [{text}]'.replace("\\", "\\\\")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
