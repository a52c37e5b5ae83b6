"""What is distilled: the parameters of every method, with bounds and defaults."""

from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field, Tag

from kdcore.spec.base import Spec

Need = Literal["logits", "pooled", "maps", "target", "index"]

Weight = Annotated[float, Field(gt=0, le=1e6)]
Temperature = Annotated[float, Field(ge=0.01, le=1000)]


class Supervised(Spec):
    """Cross-entropy with the true labels alone: trains teachers, and baselines to compare with."""

    type: Literal["supervised"]


class KD(Spec):
    """Soft targets: the student matches the teacher's softened class probabilities.

    The first choice for any pair whose classes are the same. Loss: T² · KL(teacher ‖ student),
    summed over classes, mean over the batch, both softened by the temperature T.
    """

    type: Literal["kd"]
    temperature: Temperature = 4.0
    """T. Higher shows more of what the teacher thinks of the wrong classes."""
    weight: Weight = 0.9
    logit_standardization: bool = False
    """Bring each sample's logits to mean 0 and deviation 1 first (Sun et al. 2024)."""


class LogitMatching(Spec):
    """The student matches the teacher's logits directly: mean squared error.

    Choose it when the scale of the logits matters, for instance when they are used as scores.
    """

    type: Literal["logit_matching"]
    weight: Weight = 1.0
    logit_standardization: bool = False
    """Bring each sample's logits to mean 0 and deviation 1 first (Sun et al. 2024)."""


AnyMethod = Supervised | KD | LogitMatching
Method = Annotated[AnyMethod, Field(discriminator="type")]
MethodName = Literal["supervised", "kd", "logit_matching"]


class MethodEntry(Spec):
    """One line of the catalogue of methods."""

    params: type[Spec]
    group: Literal["labels", "logits", "features", "relations"]
    needs: tuple[Need, ...]
    default_label_weight: float
    paper: str | None


METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry(
        params=Supervised,
        group="labels",
        needs=("logits", "target"),
        default_label_weight=1.0,
        paper=None,
    ),
    "kd": MethodEntry(
        params=KD,
        group="logits",
        needs=("logits",),
        default_label_weight=0.1,
        paper="https://arxiv.org/abs/1503.02531",
    ),
    "logit_matching": MethodEntry(
        params=LogitMatching,
        group="logits",
        needs=("logits",),
        default_label_weight=1.0,
        paper="https://papers.nips.cc/paper/5484-do-deep-nets-really-need-to-be-deep",
    ),
}


# No client has a field of such a name: the steps to a fault are told from those to a field.
_NAME, _ONE, _LIST = "(a name)", "(a method)", "(a list)"


def _shape(value: object) -> str:
    """Which way of writing ``method`` the client chose; errors then come from that way alone."""
    if isinstance(value, str):
        return _NAME
    return _LIST if isinstance(value, list | tuple) else _ONE


MethodField = Annotated[
    Annotated[MethodName, Tag(_NAME)]
    | Annotated[Method, Tag(_ONE)]
    | Annotated[
        tuple[Method, ...],
        Field(min_length=1, max_length=8),
        Tag(_LIST),
    ],
    Discriminator(_shape),
]


def as_methods(field: MethodName | AnyMethod | tuple[AnyMethod, ...]) -> tuple[AnyMethod, ...]:
    """One way to write ``method`` out of the three: a name is short for its defaults."""
    if isinstance(field, str):
        return (METHODS[field].params.model_validate({"type": field}),)  # type: ignore[return-value]
    return field if isinstance(field, tuple) else (field,)


def default_label_weight(methods: tuple[AnyMethod, ...]) -> float:
    """The weight of cross-entropy when the job does not say: a sum of methods has 0.1 beside kd."""
    if len(methods) == 1:
        return METHODS[methods[0].type].default_label_weight
    return 0.1 if any(method.type == "kd" for method in methods) else 1.0


assert set(METHODS) == set(get_args(MethodName))  # noqa: S101 - a new method must be in both
