"""MethodParams: the base of every method's parameters, and the types of their fields."""

from typing import Annotated, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel

Need = Literal["logits", "pooled", "maps", "target", "index"]
MethodGroup = Literal["labels", "logits", "features", "relations"]
METHOD_GROUPS: tuple[MethodGroup, ...] = get_args(MethodGroup)


class MethodParams(FrozenModel):
    """Parameters of one method, as fields, and what the catalog says about it, as class variables.

    The docstring of a subclass is the catalog's description of the method. The field ``type`` is
    a literal with the name of the method, which is also the name of its files.
    """

    group: ClassVar[MethodGroup]
    """What it compares."""
    needs: ClassVar[tuple[Need, ...]]
    """Outputs of the networks and columns of the batch that its loss reads. ``target`` means one
    true label for every image; only ``supervised`` accepts mixed and missing labels."""
    when_to_use: ClassVar[str]
    """One sentence for the catalog."""
    formula: ClassVar[str]
    """The loss before it is multiplied with its weight; s is the student, t the teacher."""
    paper: ClassVar[str | None] = None
    """URL of the source."""
    default_label_weight: ClassVar[float] = 1.0
    """Weight of cross-entropy with the true labels where the job sets none."""
    min_batch: ClassVar[int] = 1
    """Smallest number of images in a batch."""
    one_teacher: ClassVar[bool] = False
    """Whether it refuses more than one teacher."""
    min_maps: ClassVar[int] = 0
    """Smallest number of pairs of feature maps."""
    uses_teacher: ClassVar[bool] = True
    """Whether its loss reads the outputs of a teacher."""
    compares_all_logits: ClassVar[bool] = False
    """Whether its loss needs the teacher's logits of all classes, not only the largest ones."""
    target_share: ClassVar[float] = 0.5
    """At weight `auto`, its share of the gradient at the start, beside cross-entropy."""
    weight_decay_end: ClassVar[float] = 1.0
    """At weight `auto`, the last step's share of the gradient as a part of the target share; the
    share falls to it on a half cosine. 1 keeps the target share."""
    min_label_share: ClassVar[float] = 0.1
    """At weight `auto`, the smallest share of the gradient that cross-entropy has."""

    type: str

    @classmethod
    def method_name(cls) -> str:
        """The name of the method, which is the only value of ``type``."""
        name: str = get_args(cls.model_fields["type"].annotation)[0]
        return name

    @property
    def teaches_classifier(self) -> bool:
        """Whether its gradient reaches the last layer; features and relations end before it."""
        return self.group == "logits"

    @property
    def published_weight(self) -> float:
        """The weight of the paper or of its authors' code; 1 for a method without a weight."""
        field = type(self).model_fields.get("weight")
        return 1.0 if field is None else float(field.default)

    @property
    def resolved_weight(self) -> float | Literal["auto"]:
        """``weight``, with the number for `published`; 1 for a method without a weight."""
        weight: float | WeightWord = getattr(self, "weight", self.published_weight)
        if "weight" not in self.model_fields_set:
            weight = DEFAULT_WEIGHT
        return self.published_weight if weight == "published" else weight

    def with_defaults(self, epochs: int) -> Self:
        """The same parameters with every default explicit, for a training of ``epochs`` epochs."""
        if "weight" not in type(self).model_fields:
            return self
        return self.model_copy(update={"weight": self.resolved_weight})

    def warning(self, num_classes: int) -> str | None:
        """What a user should know before training on ``num_classes`` classes."""
        return None


_Params = TypeVar("_Params", bound=MethodParams)

WeightWord = Literal["auto", "published"]
DEFAULT_WEIGHT: WeightWord = "published"
"""The weight of a method whose job sets none. `auto` replaces it when every method is at least as
good as labels alone in docs/reference/quality.md."""


def _weight_variant(value: object) -> str:
    """How the client wrote the weight; errors then come from that variant alone."""
    if not isinstance(value, str):
        return "(a number)"
    try:
        float(value)
    except ValueError:
        return "(a word)"
    return "(a number)"


Weight = Annotated[
    Annotated[float, Field(gt=0, le=1e6), Tag("(a number)")]
    | Annotated[WeightWord, Tag("(a word)")],
    Discriminator(_weight_variant),
    Field(
        description="Factor of the loss. `published` is the number of the paper, which is the "
        "default. `auto` finds the number before training, so that the method has its target "
        "share of the gradient."
    ),
]
LabelWeight = Annotated[
    Annotated[float, Field(ge=0, le=1e6), Tag("(a number)")]
    | Annotated[Literal["auto"], Tag("(a word)")],
    Discriminator(_weight_variant),
]
PartWeight = Annotated[float, Field(ge=0, le=1e6)]
"""Weight of one part of a method; 0 disables the part."""
Temperature = Annotated[float, Field(ge=0.01, le=1000)]
StepShare = Annotated[float, Field(gt=0, lt=1)]
"""A share of the training's steps."""
Standardized = Annotated[
    bool,
    Field(
        description="Bring each sample's logits to mean 0 and deviation 1 first (Sun et al. 2024)."
    ),
]


def require_positive_part(params: _Params, *parts: str) -> _Params:
    """Return ``params``; raise where the weights of all its ``parts`` are 0."""
    if any(getattr(params, part) for part in parts):
        return params
    raise PydanticCustomError(
        "no_positive_weight",
        "at least one of {parts} must be above 0",
        {"parts": " and ".join(parts)},
    )
