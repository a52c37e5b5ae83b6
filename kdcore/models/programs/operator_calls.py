"""Calls of operators in a torch.export program: only functions of tensors, without side effects."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from kdcore.models.programs.program_network import program_error

EXPORT_HINT = (
    'export it again: torch.export.save(torch.export.export(model.eval(), (images,)), "model.pt2")'
)
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Types of plain tensors, by the number in the file."""
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED = 7
_ATEN = "torch.ops.aten."
_PYTHON = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pow", "pos"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_ite")
    },
}
"""Arithmetic of sizes."""
_ASSERTIONS = frozenset(
    {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range"}
    | {"sym_constrain_range_for_size"}
)
"""Operators that check their arguments and return nothing: they are skipped."""
_REFUSED = frozenset({"empty", "empty_strided", "resize_", "from_file"})
"""Core operators with outputs that the inputs do not decide."""
_COMPOSITE_NAMES = """
_native_batch_norm_legit_no_training _safe_softmax _scaled_dot_product_flash_attention_for_cpu
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
mish mish_ moveaxis movedim mul_ mv narrow native_batch_norm new_full new_ones new_zeros norm
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


@functools.cache
def find_operator(target: str) -> Callable[..., Any] | None:
    """Return the operator of a node's target, such as ``torch.ops.aten.conv2d.default``.

    None for an operator that is not run: of another namespace, with effects beside its output, or
    with random outputs. Nothing else is looked up by a name in a file.
    """
    if target in _PYTHON:
        function: Callable[..., Any] = _PYTHON[target]
        return function
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
    if any(argument.is_out for argument in overload._schema.arguments):
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


class Ref(NamedTuple):
    """A value that an input or an earlier call has."""

    name: str


class Device(NamedTuple):
    """The device of the network."""


class Call(NamedTuple):
    """One call of an operator."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[Any]
    """A name, or a list of names, for each result; None for a result without a name."""
    unused: tuple[str, ...]
    """Values that no later call reads."""


def read_call(node: Any) -> Call:
    """Read a node of the graph. Raises :class:`UserError` for arguments that are not run."""
    function: Any = find_operator(node["target"])
    args, kwargs = [], {}
    schema = getattr(function, "_schema", None)
    for value in node["inputs"]:
        argument = _read_argument(value["arg"])
        if schema is None:
            args.append(argument)
        else:
            kwargs[str(value["name"])] = argument
    return Call(function, args, kwargs, [_read_result(value) for value in node["outputs"]], ())


def _read_argument(value: Any) -> Any:
    ((kind, content),) = value.items()
    reader = _READERS.get(kind)
    if reader is None:
        raise program_error(
            f"the program passes arguments of the kind {kind[:100]}, which are not run", EXPORT_HINT
        )
    return reader(content)


def _read_layout(content: Any) -> torch.layout:
    if content != _STRIDED:
        raise program_error("the program uses tensors that are not plain and dense")
    return torch.strided


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(item) for item in content]
    if not isinstance(content, int | float | str | bool | None):
        raise TypeError("a plain value is expected")
    return content


def _float(content: Any) -> float | list[float]:
    """Read floats; infinite ones and NaN are texts in the file."""
    return [float(item) for item in content] if isinstance(content, list) else float(content)


def _ref(content: Any) -> Ref:
    return Ref(str(content["name"]))


def _either(content: Any) -> Any:
    """Read a number that may be a value of the graph, or a tensor that may be missing."""
    ((kind, value),) = content.items()
    if kind == "as_name":
        return Ref(str(value))
    if kind == "as_tensor":
        return _ref(value)
    return None if kind == "as_none" else _plain(value)


def _list_of(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda content: [reader(item) for item in content]


_READERS: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_tensor": _ref,
    "as_tensors": _list_of(_ref),
    "as_optional_tensor": _either,
    "as_optional_tensors": _list_of(_either),
    "as_scalar_type": lambda content: DTYPES[content],
    "as_memory_format": lambda content: _MEMORY_FORMATS[content],
    "as_layout": _read_layout,
    "as_device": lambda _: Device(),
    **dict.fromkeys(("as_sym_int", "as_sym_bool", "as_sym_float"), _either),
    **dict.fromkeys(("as_sym_ints", "as_sym_bools", "as_sym_floats"), _list_of(_either)),
    **dict.fromkeys(("as_float", "as_floats"), _float),
    **dict.fromkeys(
        ("as_int", "as_string", "as_bool", "as_ints", "as_bools", "as_strings"), _plain
    ),
}


def _read_result(value: Any) -> Any:
    ((kind, content),) = value.items()
    if kind == "as_tensor":
        return str(content["name"])
    if kind == "as_tensors":
        return [str(item["name"]) for item in content]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return str(content["as_name"])
    return None
