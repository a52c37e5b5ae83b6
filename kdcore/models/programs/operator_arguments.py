"""Arguments of operators in a torch.export program, of the types that the operators declare."""

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
_NUMBERS = frozenset({"int", "float", "bool", "sym_int", "sym_float", "sym_bool"})
_KINDS: dict[str, frozenset[str]] = {
    # torch.export writes numbers in the place of tensors of one value.
    "Tensor": _NUMBERS | {"tensor"},
    "number": _NUMBERS,
    "int": frozenset({"int", "sym_int"}),
    "float": _NUMBERS - {"bool", "sym_bool"},
    # A number is no bool, although torch takes it for one.
    "bool": frozenset({"bool", "sym_bool"}),
    "str": frozenset({"string"}),
    "ScalarType": frozenset({"scalar_type"}),
    "MemoryFormat": frozenset({"memory_format"}),
    "Layout": frozenset({"layout"}),
    "Device": frozenset({"device"}),
}
"""Kinds of values in the file, without their number, by the types of arguments."""


class Ref(NamedTuple):
    """A value that an input or an earlier call has."""

    name: str


class Device(NamedTuple):
    """The device of the network."""


def read_number(value: Any) -> Any:
    """Read an argument that is a number. Raises :class:`UserError` for any other."""
    ((kind, _),) = value.items()
    if kind.removeprefix("as_") not in _NUMBERS:
        raise program_error(f"the program computes sizes with arguments of the kind {kind[:100]}")
    return read_value(value)


def read_argument(value: Any, argument: Any, target: str) -> Any:
    """Read an argument of an operator; ``argument`` is its part of the operator's schema.

    Raises :class:`UserError` for a value of another type.
    """
    ((kind, content),) = value.items()
    declared = str(argument.real_type)
    base = declared.removeprefix("Optional[").removeprefix("List[").removeprefix("Optional[")
    single = kind.removeprefix("as_").removeprefix("optional_").removesuffix("s")
    is_empty = content == [] and "List[" in declared
    if not (kind == "as_none" or is_empty or single in _KINDS.get(base.rstrip("]"), ())):
        raise program_error(
            f"the program passes {argument.name} of {target[:200]} as {kind[:100]}; the operator "
            f"takes {declared}",
            hint=EXPORT_HINT,
        )
    return read_value(value)


def read_value(value: Any) -> Any:
    """Read a value of any kind. Raises :class:`UserError` for kinds that are not run."""
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


def _plain(kind: type) -> Callable[[Any], Any]:
    def read(content: Any) -> Any:
        if isinstance(content, list):
            return [read(item) for item in content]
        if type(content) is not kind:
            raise TypeError(f"{kind.__name__} is expected")
        return content

    return read


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
    return read_value(content)


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
    **dict.fromkeys(("as_int", "as_ints"), _plain(int)),
    **dict.fromkeys(("as_bool", "as_bools"), _plain(bool)),
    **dict.fromkeys(("as_string", "as_strings"), _plain(str)),
}
