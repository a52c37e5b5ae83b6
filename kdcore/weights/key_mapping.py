"""Find a network's tensors in a checkpoint: prefixes, averaged copies, tensors of other parts."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.asset_info import WeightsChoice
from kdcore.weights.key_renaming import NamedTensor, removal_rules
from kdcore.weights.target_network import BATCH_COUNTER, TargetNetwork

_AVERAGED = re.compile(r"(^|_)(ema|swa|shadow|averaged?)(_|$)", re.IGNORECASE)
_EXTRA_PART = re.compile(
    r"criterion|criteria|\w*loss\w*|\w*metrics?|acc|accuracy|auc|auroc|f1|precision|recall"
    r"|\w+_(acc|accuracy|auc|auroc|f1)|confmat|confusion_matrix|n_averaged|num_updates|initted"
    r"|aux\w*|teacher\w*|queue\w*|class_weights?|pos_weight|mixup"
    r"|augment\w*|optimizer|_extra_state|num_batches_tracked"
    r"|total_ops|total_params",
    re.IGNORECASE,
)
"""Parts of names of what training keeps beside a network."""
_BUFFER_PART = re.compile(
    r"step|decay|(\w+_)?(mean|std)|normali[sz]\w*|\w*transforms?", re.IGNORECASE
)
"""Parts of names of such buffers, and of layers as well: they count for few values alone."""
_NORMALIZATION_VALUES = re.compile(r"(\w+_)?(mean|std)", re.IGNORECASE)
_LEARNED = frozenset({"weight", "bias"})
_MAX_CHANNELS = 4
"""Values of a buffer, one for each channel of the images."""
_EXTRA_INSIDE = frozenset(
    {BATCH_COUNTER, "total_ops", "total_params", "_extra_state"}
    | {"relative_position_index", "attn_mask", "position_ids"}
)
"""Last parts of names inside a network that its outputs do not depend on."""
_USUAL_WRAPPERS = frozenset({"state_dict", "model_state_dict", "model", "module", "student"})
"""Keys and prefixes that go without saying."""
_MAX_LISTED = 20


class _Parametrization(NamedTuple):
    """How PyTorch stores a parameter that is computed from others."""

    first: re.Pattern[str]
    """Name of the first of the stored tensors; its groups are the name of the parameter."""
    second: str
    """End of the name of the second one, in place of the last part of ``first``."""
    kind: str
    removal: str


_PARAMETRIZATIONS = (
    _Parametrization(
        re.compile(r"(.*)_orig"), "_mask", "pruned", 'torch.nn.utils.prune.remove(layer, "weight")'
    ),
    _Parametrization(
        re.compile(r"(.*)_orig"),
        "_u",
        "spectral norm",
        "torch.nn.utils.remove_spectral_norm(layer)",
    ),
    _Parametrization(
        re.compile(r"(.*)_g"), "_v", "weight norm", "torch.nn.utils.remove_weight_norm(layer)"
    ),
    _Parametrization(
        re.compile(r"(.*\.)?parametrizations\.(\w+)\.original0?"),
        "",
        "parametrized",
        'torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")',
    ),
)


class TensorMapping(NamedTuple):
    """The tensors of one network in a checkpoint."""

    tensors: dict[str, Tensor]
    """By the network's names."""
    prefix: str
    """What precedes these names in the checkpoint."""
    unexpected: dict[str, Tensor]
    """Other tensors of the same dicts that may be part of another network."""
    notes: tuple[str, ...] = ()
    has_alternative: bool = False
    """Whether the checkpoint has averaged and raw weights of the network."""
    entries: tuple[NamedTensor, ...] = ()
    """What ``tensors`` are in the checkpoint."""


def map_tensors(
    named: Sequence[NamedTensor], target: TargetNetwork, weights: WeightsChoice | None = None
) -> TensorMapping:
    """Return the tensors that best fit a network, under whatever prefix they are.

    Several complete sets of weights: ``weights`` chooses between averaged (``ema``) and ``raw``
    ones, None prefers averaged ones; a student counts before its teacher. Raises
    :class:`UserError` if the choice is not there, or if different sets fit equally well.
    """
    by_prefix = _find_prefixes(named, target)
    complete = {
        prefix: entries
        for prefix, entries in by_prefix.items()
        if target.required_names <= entries.keys()
    }
    fitting = {
        p: entries
        for p, entries in complete.items()
        if _num_fitting(entries, target) == len(entries)
    }
    options = fitting or complete
    if options:
        prefix, notes = _select(options, weights)
        both = len({_is_averaged(option) for option in options}) > 1
        mapping = _mapping(named, target, prefix, options, notes)
        return mapping._replace(has_alternative=both)
    if not by_prefix:
        return TensorMapping({}, "", {entry.name: entry.tensor for entry in named})
    prefix = max(by_prefix, key=lambda p: (_num_fitting(by_prefix[p], target), -len(p)))
    joined = _join_two_prefixes(by_prefix, prefix, target)
    return _mapping(named, target, prefix, {prefix: joined or by_prefix[prefix]}, ())


def check_parametrizations(named: Sequence[NamedTensor]) -> None:
    """Raise :class:`UserError` if parameters are stored as factors, as pruning stores them."""
    names = {entry.name for entry in named}
    for first, second, kind, removal in _PARAMETRIZATIONS:
        items = []
        for name in sorted(names):
            match = first.fullmatch(name)
            parameter = "".join(part or "" for part in match.groups()) if match else name
            other = f"{parameter}{second}" if second else name
            if parameter not in names and other in names:
                stored = f"{name} and {other}" if other != name else name
                items.append(error_detail(parameter, f"is stored as {stored} ({kind})"))
        if items:
            raise UserError(
                "checkpoint_invalid",
                f"{len(items)} parameters of the checkpoint are stored as factors ({kind}): the "
                f"first, {items[0].name}, {items[0].detail.removesuffix(f' ({kind})')}",
                hint=f"call {removal} for each such layer, and save its state dict again",
                items=items,
            )


def _find_prefixes(
    named: Iterable[NamedTensor], target: TargetNetwork
) -> dict[str, dict[str, NamedTensor]]:
    """Return, by prefix, the network's names that follow it in the checkpoint."""
    by_prefix: dict[str, dict[str, NamedTensor]] = defaultdict(dict)
    for entry in named:
        start = 0
        while True:
            if entry.path[start:] in target.tensors:
                by_prefix[entry.path[:start]][entry.path[start:]] = entry
            start = entry.path.find(".", start) + 1
            if not start:
                break
    return by_prefix


def _num_fitting(entries: Mapping[str, NamedTensor], target: TargetNetwork) -> int:
    """Return how many tensors have the shape of the network, for any classes and channels."""
    return sum(_fits(name, entry.tensor, target) for name, entry in entries.items())


def _fits(name: str, tensor: Tensor, target: TargetNetwork) -> bool:
    expected = target.tensors[name]
    if name.endswith(BATCH_COUNTER):
        return tensor.numel() == 1
    if tensor.shape == expected.shape:
        return True
    if tensor.ndim != expected.ndim or not expected.ndim:
        return False
    if name == target.stem:
        return tensor.shape[0] == expected.shape[0] and tensor.shape[2:] == expected.shape[2:]
    return expected.shape[0] == target.num_classes and tensor.shape[1:] == expected.shape[1:]


def _select(
    options: dict[str, dict[str, NamedTensor]], weights: WeightsChoice | None
) -> tuple[str, tuple[str, ...]]:
    """Return the prefix of the weights to use, and what to say about the others."""
    averaged = [prefix for prefix in options if _is_averaged(prefix)]
    raw = [prefix for prefix in options if prefix not in averaged]
    if weights is not None and not (averaged if weights == "ema" else raw):
        other = "raw" if weights == "ema" else "ema"
        raise UserError(
            "checkpoint_invalid",
            f"the checkpoint has no complete {weights} weights; it has {other} weights under "
            f"{_quote(options)}",
            hint=f'set weights to "{other}", or leave it out',
            fix_fields=("weights",),
        )
    selected = averaged if averaged and weights != "raw" else raw
    notes: tuple[str, ...] = ()
    if averaged and raw and weights is None:
        notes = (
            f"the averaged weights (EMA) under {_quote(averaged)} are used, not those under "
            f'{_quote(raw)}; "weights": "raw" selects the others',
        )
    students = [prefix for prefix in selected if "student" in prefix.split(".")]
    others = [prefix for prefix in selected if "teacher" not in prefix.split(".")]
    selected = students or others or selected
    different = [p for p in selected[1:] if not _are_equal(options[selected[0]], options[p])]
    if different:
        raise _ambiguity_error({p: options[p] for p in (selected[0], *different)})
    return selected[0], notes


def _ambiguity_error(options: Mapping[str, Mapping[str, NamedTensor]]) -> UserError:
    # The names of the set with the shortest prefix begin with no other set's prefix.
    first = min(options, key=len)
    rules = removal_rules(
        [entry for prefix in options if prefix != first for entry in options[prefix].values()],
        list(options[first].values()),
    )
    return UserError(
        "checkpoint_invalid",
        f"the checkpoint has several different sets of weights for this network, under "
        f"{_quote(options)}",
        hint=f"leave all but one out with key_map{f': {rules}' if rules else ''}",
        fix_fields=("key_map",),
    )


def _is_averaged(prefix: str) -> bool:
    return any(_AVERAGED.search(part) for part in prefix.split("."))


def _are_equal(one: Mapping[str, NamedTensor], other: Mapping[str, NamedTensor]) -> bool:
    def equal(a: Tensor, b: Tensor) -> bool:
        same_kind = a.dtype == b.dtype and a.shape == b.shape and a.layout == b.layout
        # A hostile tensor repeats few values often: it is not compared value by value.
        stored = all(t.numel() * t.element_size() <= t.untyped_storage().nbytes() for t in (a, b))
        return same_kind and stored and (a.data_ptr() == b.data_ptr() or torch.equal(a, b))

    try:
        return all(name in other and equal(one[name].tensor, other[name].tensor) for name in one)
    except (RuntimeError, NotImplementedError):
        return False  # tensors without values, which later checks name


def _join_two_prefixes(
    by_prefix: Mapping[str, Mapping[str, NamedTensor]], prefix: str, target: TargetNetwork
) -> dict[str, NamedTensor] | None:
    """Return a network whose last layers have another prefix, or None unless that is clear."""
    body = by_prefix[prefix]
    groups = {entry.group for entry in body.values()}
    missing = target.required_names - body.keys()
    rest = [
        entries
        for other, entries in by_prefix.items()
        if other != prefix
        and missing <= entries.keys()
        and all(entries[n].group in groups and _fits(n, entries[n].tensor, target) for n in missing)
    ]
    if len(rest) != 1 or 2 * len(missing) > len(target.required_names):
        return None
    return {**body, **{name: rest[0][name] for name in missing}}


def _mapping(
    named: Iterable[NamedTensor],
    target: TargetNetwork,
    prefix: str,
    options: Mapping[str, Mapping[str, NamedTensor]],
    notes: tuple[str, ...],
) -> TensorMapping:
    """Return the mapping at ``prefix``, and tell known extras from other tensors."""
    used = options[prefix]
    groups = {entry.group for entry in used.values()}
    explained = {entry.path for entries in options.values() for entry in entries.values()}
    rest = [e for e in named if e.group in groups and e.path not in explained]
    unexpected = {e.name: e.tensor for e in rest if not _is_known_extra(e, prefix, target)}
    ignored = [entry.name for entry in rest if entry.name not in unexpected]
    joined = sorted({e.path.removesuffix(n) for n, e in used.items()} - {prefix})
    unusual = [part for part in prefix.split(".") if part and part not in _USUAL_WRAPPERS]
    if unusual:
        notes = (
            *notes,
            f"the weights are those whose names begin with {_quote([prefix, *joined])}",
        )
    elif joined:
        notes = (*notes, f"the prefixes {_quote(joined)} are removed")
    if ignored:
        listed = ", ".join(sorted(ignored)[:_MAX_LISTED])
        more = f" and {len(ignored) - _MAX_LISTED} more" if len(ignored) > _MAX_LISTED else ""
        notes = (*notes, f"not part of the network, so not read: {listed}{more}")
    notes = (*notes, *_normalization_notes(e for e in rest if e.name not in unexpected))
    return TensorMapping(
        {name: entry.tensor for name, entry in used.items()},
        prefix,
        unexpected,
        notes,
        entries=tuple(used.values()),
    )


def _is_known_extra(entry: NamedTensor, prefix: str, target: TargetNetwork) -> bool:
    """Return whether a tensor is of a kind that trainings keep beside a network."""
    inside = entry.path.startswith(prefix)
    name = entry.path.removeprefix(prefix) if inside else entry.name
    parts = name.split(".")
    if inside and parts[0] in {known.partition(".")[0] for known in target.tensors}:
        return parts[-1] in _EXTRA_INSIDE
    if not inside and "student" in prefix.split("."):
        return True  # a distiller: its other parts are the teacher and layers for the loss
    known = any(_EXTRA_PART.fullmatch(part) or _is_averaged(part) for part in parts)
    return known or entry.tensor.numel() <= 1 or _is_buffer(parts, entry.tensor)


def _is_buffer(parts: Sequence[str], tensor: Tensor) -> bool:
    """Return whether a tensor has at most one value for each channel, and is not learned."""
    is_small = tensor.numel() == max(tensor.shape, default=1) <= _MAX_CHANNELS
    named = any(_BUFFER_PART.fullmatch(part) for part in parts)
    return named and is_small and parts[-1] not in _LEARNED


def _normalization_notes(extras: Iterable[NamedTensor]) -> tuple[str, ...]:
    """Return a warning with the values of a normalization inside the uploaded network."""
    values = [
        f"{entry.name} = ({', '.join(f'{value:.4g}' for value in entry.tensor.flatten().tolist())})"
        for entry in extras
        if _NORMALIZATION_VALUES.fullmatch(entry.name.rpartition(".")[2])
        and 0 < entry.tensor.numel() <= _MAX_CHANNELS
        and _has_numbers(entry.tensor)
    ]
    if not values:
        return ()
    return (
        f"the file has {' and '.join(values)}, which are not applied: `normalization` of the "
        "model should be these values",
    )


def _has_numbers(tensor: Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    return is_plain and tensor.is_floating_point()


def _quote(prefixes: Iterable[str]) -> str:
    return ", ".join(f"`{prefix}`" if prefix else "the top" for prefix in prefixes)
