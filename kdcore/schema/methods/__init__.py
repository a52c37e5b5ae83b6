"""What is distilled: one file for each method, with its parameters and its entry in the catalog.

METHODS has them by name. The field ``method`` of a job is written in three ways.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Discriminator, Field, Tag

from kdcore.schema.discovery import discover_params
from kdcore.schema.methods.base import METHOD_GROUPS, LabelWeight, MethodParams, Need

__all__ = [
    "METHODS",
    "AnyMethod",
    "LabelWeight",
    "MethodField",
    "MethodParams",
    "Need",
    "as_methods",
    "default_label_weight",
]

METHODS: dict[str, type[MethodParams]] = dict(
    sorted(
        discover_params(__name__, MethodParams).items(),
        key=lambda item: (METHOD_GROUPS.index(item[1].group), item[0]),
    )
)
"""Parameters of each method by its name: labels first, then logits, features and relations."""

if TYPE_CHECKING:
    AnyMethod = MethodParams
    MethodName = str
else:
    AnyMethod = Union[tuple(METHODS.values())]  # noqa: UP007 - the members are known at run time
    MethodName = Literal[tuple(METHODS)]

TaggedMethod = Annotated[AnyMethod, Field(discriminator="type")]

# No request has fields of these names, so that a step in pydantic's error location that names the
# variant differs from a step that names a field.
_NAME, _ONE, _LIST = "(a name)", "(a method)", "(a list)"


def _variant(value: object) -> str:
    """How the client wrote ``method``; errors then come from that variant alone."""
    if isinstance(value, str):
        return _NAME
    return _LIST if isinstance(value, list | tuple) else _ONE


_MethodItem = Annotated[
    Annotated[MethodName, Tag(_NAME)] | Annotated[TaggedMethod, Tag(_ONE)], Discriminator(_variant)
]
MethodField = Annotated[
    Annotated[MethodName, Tag(_NAME)]
    | Annotated[TaggedMethod, Tag(_ONE)]
    | Annotated[
        tuple[_MethodItem, ...],
        Field(min_length=1, max_length=8),
        Tag(_LIST),
    ],
    Discriminator(_variant),
]


def as_methods(
    field: MethodName | AnyMethod | tuple[MethodName | AnyMethod, ...],
) -> tuple[AnyMethod, ...]:
    """The field ``method`` as a tuple of parameters: a name stands for its method's defaults."""
    return tuple(_expand_name(item) for item in (field if isinstance(field, tuple) else (field,)))


def _expand_name(method: MethodName | AnyMethod) -> AnyMethod:
    if isinstance(method, str):
        return METHODS[method].model_validate({"type": method})
    return method


def default_label_weight(methods: tuple[AnyMethod, ...]) -> float:
    """Weight of cross-entropy with the true labels where the job sets none: the methods' least."""
    return min(method.default_label_weight for method in methods)
