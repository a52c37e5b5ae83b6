"""The three ways to write ``method`` in a job, and the one way in which the engine reads it."""

from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field, Tag

from kdcore.schema.methods import features, logits, relations
from kdcore.schema.methods.registry import METHODS

AnyMethod = (
    logits.Supervised
    | logits.KD
    | logits.LogitMatching
    | logits.DKD
    | logits.DIST
    | logits.BatchLogits
    | features.FitNet
    | features.Attention
    | features.FactorTransfer
    | features.FSP
    | features.NST
    | features.VID
    | features.ReviewKD
    | relations.RKD
    | relations.Similarity
    | relations.PKT
    | relations.Correlation
    | relations.CRD
)
TaggedMethod = Annotated[AnyMethod, Field(discriminator="type")]
MethodName = Literal[
    "supervised",
    "kd",
    "logit_matching",
    "dkd",
    "dist",
    "batch_logits",
    "fitnet",
    "attention",
    "factor_transfer",
    "fsp",
    "nst",
    "vid",
    "reviewkd",
    "rkd",
    "similarity",
    "pkt",
    "correlation",
    "crd",
]

# No client has a field of such a name: the steps to a fault are told from those to a field.
_NAME, _ONE, _LIST = "(a name)", "(a method)", "(a list)"


def _shape(value: object) -> str:
    """Which way of writing ``method`` the client chose; errors then come from that way alone."""
    if isinstance(value, str):
        return _NAME
    return _LIST if isinstance(value, list | tuple) else _ONE


_MethodItem = Annotated[
    Annotated[MethodName, Tag(_NAME)] | Annotated[TaggedMethod, Tag(_ONE)], Discriminator(_shape)
]
MethodField = Annotated[
    Annotated[MethodName, Tag(_NAME)]
    | Annotated[TaggedMethod, Tag(_ONE)]
    | Annotated[
        tuple[_MethodItem, ...],
        Field(min_length=1, max_length=8),
        Tag(_LIST),
    ],
    Discriminator(_shape),
]


def as_methods(
    field: MethodName | AnyMethod | tuple[MethodName | AnyMethod, ...],
) -> tuple[AnyMethod, ...]:
    """One way to write ``method`` out of the three: a name is short for its defaults."""
    return tuple(_expand_name(item) for item in (field if isinstance(field, tuple) else (field,)))


def _expand_name(method: MethodName | AnyMethod) -> AnyMethod:
    if isinstance(method, str):
        return METHODS[method].params.model_validate({"type": method})  # type: ignore[return-value]
    return method


def default_label_weight(methods: tuple[AnyMethod, ...]) -> float:
    """The weight of cross-entropy when the job does not say: a sum of methods has 0.1 beside kd."""
    if len(methods) == 1:
        return METHODS[methods[0].type].default_label_weight
    return 0.1 if any(method.type == "kd" for method in methods) else 1.0


def teaches_classifier(method: AnyMethod) -> bool:
    """Whether its terms reach the last layer: features and relations end before it."""
    if isinstance(method, features.FitNet):
        return method.two_stage and method.kd_weight > 0
    return METHODS[method.type].group == "logits"


assert set(METHODS) == set(get_args(MethodName))  # noqa: S101 - a new method must be in both
