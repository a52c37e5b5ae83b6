"""Parameters of the method ``dkd``."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.methods.base import (
    MethodParams,
    PartWeight,
    Standardized,
    Temperature,
    Weight,
    require_positive_part,
)

WARMUP_EPOCHS = 20
"""The paper's warm-up."""


class DKD(MethodParams):
    """Soft targets in two parts: the true class against all others, and the others by themselves.

    Choose it when the teacher is very confident: plain soft targets then hardly weigh the other
    classes, and this method weighs them separately. It needs a label for every image. With two
    classes the second part is always 0.
    """

    group = "logits"
    needs = ("logits", "target")
    paper = "https://arxiv.org/abs/2203.08679"
    when_to_use = "When the teacher is so confident that kd hardly weighs the other classes."
    formula = (
        "T² · mean_b [alpha · KL(b_t ‖ b_s) + beta · KL(q_t ‖ q_s)], b = (p_y, 1 - p_y), "
        "q = softmax over the other classes"
    )
    target_share = 0.9
    """With noisy labels it gains 5 points, as the published weight does."""

    type: Literal["dkd"]
    alpha: PartWeight = 1.0
    """Weight of the true class against all others."""
    beta: PartWeight = 8.0
    """Weight of the other classes among themselves; 2 to 8 are usual, less for a weak student."""
    temperature: Temperature = 4.0
    weight: Weight = 1.0
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Epochs over which the weight rises to its full value; null: 20, or a fifth of a training of
    fewer than 100 epochs."""
    logit_standardization: Standardized = False

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        return require_positive_part(self, "alpha", "beta")

    def with_defaults(self, epochs: int) -> Self:
        """Warm up over 20 epochs, or over a fifth of a shorter training."""
        params = super().with_defaults(epochs)
        if params.warmup_epochs is not None:
            return params
        fifth = max(1, math.ceil(epochs / 5))
        return params.model_copy(update={"warmup_epochs": min(WARMUP_EPOCHS, fifth)})

    def warning(self, num_classes: int) -> str | None:
        """Two classes leave the second part without a term."""
        if num_classes > 2:
            return None
        return "with two classes the second part of dkd is always 0: kd has the same effect"
