"""Calls of operators in a torch.export program: only functions of tensors, without side effects."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.models.programs.operator_arguments import read_argument, read_number
from kdcore.models.programs.program_network import program_error

_ATEN = "torch.ops.aten."
_ASSERTIONS = frozenset(
    {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range"}
    | {"sym_constrain_range_for_size"}
)
"""Operators that check their arguments and return nothing: they are skipped."""
_REFUSED = frozenset({"empty", "empty_strided", "resize_", "from_file", "_native_batch_norm_legit"})
"""Core operators with outputs that the inputs do not decide, and one that trains."""
_COMPOSITE_NAMES = """
_native_batch_norm_legit_no_training _safe_softmax
_unsafe_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
_upsample_nearest_exact2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d
adaptive_max_pool2d add_ addcdiv addcmul addmm_ all avg_pool1d avg_pool2d baddbmm batch_norm
broadcast_tensors broadcast_to channel_shuffle chunk clamp_ clamp_max clamp_min clamp_min_
column_stack concat conj contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d copy_
cosine_similarity cudnn_grid_sampler cummax cumprod detach detach_ div_ dot dropout dropout_
dstack einsum elu_ expand_as eye feature_alpha_dropout feature_dropout fill_ flatten float_power
frobenius_norm gelu_ glu grid_sampler group_norm hardsigmoid hardsigmoid_ hardswish hardswish_
hardtanh_ hstack im2col index_add inner instance_norm layer_norm leaky_relu_ lift_fresh
lift_fresh_copy linalg_matrix_norm linalg_norm linalg_vector_norm linear linspace log_sigmoid
log_softmax logsumexp matmul max_pool1d max_pool2d max_pool2d_with_indices max_pool3d meshgrid
mish mish_ moveaxis movedim mul_ mv narrow new_full new_ones new_zeros norm
numpy_T one_hot ones ones_like outer pad pixel_shuffle pixel_unshuffle prelu relu6 relu_
repeat_interleave reshape reshape_as rms_norm roll rot90 rsub scaled_dot_product_attention selu
selu_ sigmoid_ silu silu_ softmax softplus split square squeeze_ stack std std_mean sub_
sum_to_size swapaxes swapdims t t_ take_along_dim tanh_ tensor_split tile to transpose
transpose_ tril triu type_as unbind unflatten unfold unsafe_chunk unsafe_split
unsafe_split_with_sizes unsqueeze_ upsample_bicubic2d upsample_linear1d upsample_nearest1d
upsample_nearest3d upsample_trilinear3d var_mean view_as vstack where zero_ zeros zeros_like
"""
_COMPOSITE = frozenset(_COMPOSITE_NAMES.split())
"""Operators beside ATen's core set (``torch.Tag.core``) and its pointwise ones, by base name."""
_MAX_SIZE = 2**63
_MAX_EXPONENT = 64


def _normalize_batch(**arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``_native_batch_norm_legit_no_training`` as ``batch_norm``, which compares the lengths.

    The second and third results, the statistics of a batch in training, are empty.
    """
    normalized: Tensor = torch.ops.aten.batch_norm.default(
        **arguments, training=False, cudnn_enabled=False
    )
    return normalized, normalized.new_zeros(0), normalized.new_zeros(0)


def _attend(*, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """Run ``scaled_dot_product_attention``. Raises :class:`UserError` for other shapes."""
    shapes = [tuple(tensor.shape) for tensor in (query, key, value)]
    fits = min(map(len, shapes)) >= 2 and shapes[0][-1] == shapes[1][-1]
    if not fits or shapes[1][-2] != shapes[2][-2]:
        raise program_error(
            "the shapes of query, key and value of an attention do not fit: "
            f"{', '.join(map(str, shapes))}"
        )
    output: Tensor = torch.ops.aten.scaled_dot_product_attention.default(
        query, key, value, **options
    )
    return output


_CHECKED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._native_batch_norm_legit_no_training.default: _normalize_batch,
    torch.ops.aten.scaled_dot_product_attention.default: _attend,
}
"""Functions that are called with the arguments of an operator instead of it, because its kernel
reads behind short tensors."""


def _limit_size(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of numbers. Its arguments and its result have at most 64 bits."""

    def compute(*numbers: Any) -> Any:
        for number in numbers:
            _check_size(number)
        result = function(*numbers)
        _check_size(result)
        return result

    return compute


def _check_size(number: Any) -> None:
    if isinstance(number, float) or (isinstance(number, int) and abs(number) <= _MAX_SIZE):
        return
    raise program_error("the program computes a size that is no number of at most 64 bits")


def _power(base: float, exponent: float) -> Any:
    if abs(exponent) > _MAX_EXPONENT:
        raise program_error(f"the program computes a size with the exponent {exponent}")
    return base**exponent


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "_operator.pow": _limit_size(_power),
    **{
        f"_operator.{name}": _limit_size(getattr(operator, name))
        for name in (
            *("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pos"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
        )
    },
    **{
        f"math.{name}": _limit_size(getattr(math, name))
        for name in ("ceil", "floor", "trunc", "sqrt")
    },
    **{
        f"torch.{name}": _limit_size(getattr(torch, name))
        for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_ite")
    },
}
"""Arithmetic of sizes."""


@functools.cache
def find_operator(target: str) -> Callable[..., Any] | None:
    """Return the operator of a node's target, such as ``torch.ops.aten.conv2d.default``.

    None for an operator that is not run: of another namespace, with effects beside its output, or
    with random outputs. Nothing else is looked up by a name in a file.
    """
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    base, _, overload = target.removeprefix(_ATEN).partition(".")
    if not target.startswith(_ATEN) or not (base.isidentifier() and overload.isidentifier()):
        return None
    if base in _REFUSED or base.startswith("__") or overload.startswith("__"):
        return None
    if f"aten::{base}" not in _aten_names():
        return None
    packet = getattr(torch.ops.aten, base)
    if overload not in packet.overloads():
        return None
    aten_operator: Any = getattr(packet, overload)
    return aten_operator if _is_plain(base, aten_operator) else None


def is_assertion(target: str) -> bool:
    """Return whether an operator only checks its arguments."""
    return target.removeprefix(_ATEN).partition(".")[0] in _ASSERTIONS and target.startswith(_ATEN)


def _is_plain(base: str, overload: Any) -> bool:
    schema = overload._schema
    if any(argument.is_out for argument in schema.arguments):
        return False
    # Operators without tensors compute lists and texts of any length.
    if not any("Tensor" in str(part.type) for part in (*schema.arguments, *schema.returns)):
        return False
    if base in _COMPOSITE:
        return True
    tags = overload.tags
    if torch.Tag.nondeterministic_seeded in tags or base.endswith("backward"):
        return False
    return torch.Tag.core in tags or torch.Tag.pointwise in tags


@functools.cache
def _aten_names() -> frozenset[str]:
    return frozenset(
        name.partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::")
    )


class Call(NamedTuple):
    """One call of an operator."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[Any]
    """A name, or a list of names, for each result; None for a result without a name."""
    unused: tuple[str, ...]
    """Values that no later call reads."""
    writes: tuple[str, ...] = ()
    """Arguments that the operator changes."""


def read_call(node: Any) -> Call:
    """Read a node of the graph. Raises :class:`UserError` for arguments that are not run."""
    target = node["target"]
    function: Any = find_operator(target)
    results = [_read_result(value) for value in node["outputs"]]
    schema = getattr(function, "_schema", None)
    if schema is None:
        return Call(function, [read_number(v["arg"]) for v in node["inputs"]], {}, results, ())
    arguments = {argument.name: argument for argument in schema.arguments}
    kwargs = {
        value["name"]: read_argument(value["arg"], arguments[value["name"]], target)
        for value in node["inputs"]
    }
    changed = (a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write)
    # torch.export detaches constants in place, which changes no value.
    writes = () if function is torch.ops.aten.detach_.default else tuple(changed)
    return Call(_CHECKED.get(function, function), [], kwargs, results, (), writes)


def _read_result(value: Any) -> Any:
    ((kind, content),) = value.items()
    if kind == "as_tensor":
        return str(content["name"])
    if kind == "as_tensors":
        return [str(item["name"]) for item in content]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return str(content["as_name"])
    return None
