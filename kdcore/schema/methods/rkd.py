"""Parameters of the method ``rkd``."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.methods.base import MethodParams, PartWeight, Weight, require_positive_part


class RKD(MethodParams):
    """Relational KD: the student matches distances of pairs and angles of triplets of samples.

    Choose it for embeddings, where only the arrangement of samples counts, and for networks whose
    features have different sizes. Memory grows with the cube of the batch size.
    """

    group = "relations"
    needs = ("pooled",)
    paper = "https://arxiv.org/abs/1904.05068"
    when_to_use = "For embeddings, where only the arrangement of the samples counts."
    formula = "smooth-L1 of distances (over their mean) and of cosines of triplets"
    min_batch = 2
    one_teacher = True
    target_share = 0.8
    """With noisy labels it gains 5 points, as the published weight does."""

    type: Literal["rkd"]
    distance_weight: PartWeight = 25.0
    angle_weight: PartWeight = 50.0
    weight: Weight = Field(
        1.0, description="Weight of the sum of both parts: a number, `auto` or `published`."
    )

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        return require_positive_part(self, "distance_weight", "angle_weight")
