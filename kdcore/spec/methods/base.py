"""What the parameters of all methods are made of."""

from typing import Annotated, Literal

from pydantic import Field

Need = Literal["logits", "pooled", "maps", "target", "index"]

Weight = Annotated[float, Field(gt=0, le=1e6)]
Part = Annotated[float, Field(ge=0, le=1e6)]
"""The weight of one part of a method; 0 leaves the part out."""
Temperature = Annotated[float, Field(ge=0.01, le=1000)]
Share = Annotated[float, Field(gt=0, lt=1)]
"""A part of the training, by its steps."""
Standardized = Annotated[
    bool,
    Field(
        description="Bring each sample's logits to mean 0 and deviation 1 first (Sun et al. 2024)."
    ),
]
