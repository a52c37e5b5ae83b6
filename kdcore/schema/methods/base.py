"""MethodParams: the base of every method's parameters, and the types of their fields."""

from typing import Annotated, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Field
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

    def with_defaults(self, epochs: int) -> Self:
        """The same parameters with every default explicit, for a training of ``epochs`` epochs."""
        return self

    def warning(self, num_classes: int) -> str | None:
        """What a user should know before training on ``num_classes`` classes."""
        return None


_Params = TypeVar("_Params", bound=MethodParams)

Weight = Annotated[float, Field(gt=0, le=1e6)]
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
