"""What the parameters of all methods are made of."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel

Need = Literal["logits", "pooled", "maps", "target", "index"]

Weight = Annotated[float, Field(gt=0, le=1e6)]
PartWeight = Annotated[float, Field(ge=0, le=1e6)]
"""The weight of one part of a method; 0 leaves the part out."""
_Params = TypeVar("_Params", bound=FrozenModel)


def require_positive_part(params: _Params, *parts: str) -> _Params:
    """``params`` where one of its ``parts`` counts: a method of none would teach nothing."""
    if any(getattr(params, part) for part in parts):
        return params
    raise PydanticCustomError(
        "no_positive_weight",
        "at least one of {parts} must be above 0",
        {"parts": " and ".join(parts)},
    )


Temperature = Annotated[float, Field(ge=0.01, le=1000)]
StepShare = Annotated[float, Field(gt=0, lt=1)]
"""A part of the training, by its steps."""
Standardized = Annotated[
    bool,
    Field(
        description="Bring each sample's logits to mean 0 and deviation 1 first (Sun et al. 2024)."
    ),
]
