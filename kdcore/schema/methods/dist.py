"""Parameters of the method ``dist``."""

from typing import Literal, Self

from pydantic import model_validator

from kdcore.schema.methods.base import (
    MethodParams,
    PartWeight,
    Standardized,
    Temperature,
    Weight,
    require_positive_part,
)


class DIST(MethodParams):
    """Correlation instead of equality: the student ranks classes and samples like the teacher.

    Choose it when the teacher is much stronger than the student, because such a student cannot
    match its exact probabilities. Batches should be about as large as the number of classes.
    """

    group = "logits"
    needs = ("logits",)
    paper = "https://arxiv.org/abs/2205.10536"
    when_to_use = "When the teacher is much stronger than the student, and batches are large."
    formula = "T² · [beta · (1 - mean_b corr(p_s, p_t)) + gamma · (1 - mean_c corr(p_s, p_t))]"
    min_batch = 2
    compares_all_logits = True
    target_share = 0.9
    """0.9 is equal to the published weight with noisy labels."""

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
