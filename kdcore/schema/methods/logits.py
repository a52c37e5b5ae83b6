"""Methods of labels and logits: their parameters, with bounds and defaults."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.base import FrozenModel
from kdcore.schema.methods.types import (
    PartWeight,
    Standardized,
    Temperature,
    Weight,
    require_positive_part,
)


class Supervised(FrozenModel):
    """Cross-entropy with the true labels alone: trains teachers, and baselines to compare with."""

    type: Literal["supervised"]


class KD(FrozenModel):
    """Soft targets: the student matches the teacher's softened class probabilities.

    The first choice for any pair whose classes are the same. Loss: T² · KL(teacher ‖ student),
    summed over classes, mean over the batch, both softened by the temperature T.
    """

    type: Literal["kd"]
    temperature: Temperature = 4.0
    """T. Higher shows more of what the teacher thinks of the wrong classes."""
    weight: Weight = 0.9
    logit_standardization: Standardized = False


class LogitMatching(FrozenModel):
    """The student matches the teacher's logits directly: mean squared error.

    Choose it when the scale of the logits matters, for instance when they are used as scores.
    """

    type: Literal["logit_matching"]
    weight: Weight = 1.0
    logit_standardization: Standardized = False


class DKD(FrozenModel):
    """Soft targets in two parts: how sure of the true class, and how the others share the rest.

    Choose it when the teacher is very sure: plain soft targets then hardly show the other classes,
    this weighs them by itself. Needs a label for every image. With two classes the second part is
    always 0.
    """

    type: Literal["dkd"]
    alpha: PartWeight = 1.0
    """Weight of the true class against all others."""
    beta: PartWeight = 8.0
    """Weight of the other classes among themselves; 2 to 8 are usual, less for a weak student."""
    temperature: Temperature = 4.0
    weight: Weight = 1.0
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Epochs over which the weight rises to its full value; null: 20, or a fifth of the epochs if
    that is fewer."""
    logit_standardization: Standardized = False

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        return require_positive_part(self, "alpha", "beta")


class DIST(FrozenModel):
    """Correlation in place of equality: the student ranks classes and samples as the teacher does.

    Choose it when the teacher is much stronger than the student, who then could not match its exact
    probabilities. Batches should be about as large as the number of classes.
    """

    type: Literal["dist"]
    beta: PartWeight = 1.0
    """Weight of the correlation between classes, within each sample."""
    gamma: PartWeight = 1.0
    """Weight of the correlation between samples, within each class."""
    temperature: Temperature = 4.0
    weight: Weight = 2.0
    logit_standardization: Standardized = False

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        return require_positive_part(self, "beta", "gamma")


class BatchLogits(FrozenModel):
    """The student matches which classes, and which samples, the teacher finds alike in a batch.

    Choose it beside kd: it adds what a whole batch shows and single samples do not. These are the
    class and batch terms of multi-level logit distillation. Memory grows with classes squared.
    """

    type: Literal["batch_logits"]
    temperature: Temperature = 4.0
    weight: Weight = 1.0
    logit_standardization: Standardized = False
