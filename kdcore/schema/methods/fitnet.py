"""Parameters of the method ``fitnet``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import (
    MethodParams,
    PartWeight,
    StepShare,
    Temperature,
    Weight,
)


class FitNet(MethodParams):
    """Hints: a middle feature map of the student matches the teacher's through a trained regressor.

    Choose it for a student that is thinner or deeper than its teacher. It has two stages as in the
    paper: first the hint alone, then soft targets. With one stage, hint and labels train together.
    """

    group = "features"
    needs = ("maps", "logits")
    paper = "https://arxiv.org/abs/1412.6550"
    when_to_use = "For a student that is thinner or deeper than its teacher."
    formula = "mean (r(f_s) - f_t)², r a learned convolution; then kd"
    one_teacher = True
    min_maps = 1
    target_share = 0.9
    """The hint trains alone in its stage: at 0.5 the stage is too short for its gradient."""

    type: Literal["fitnet"]
    two_stage: bool = True
    """First the hint alone, then kd; false: hint and labels in all steps, without kd."""
    stage_one: StepShare = 0.2
    """The first stage's share of the training; no effect with one stage."""
    tap: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Index of the pair of feature maps that is the hint, from 0; null: the middle pair."""
    weight: Weight = Field(
        100.0, description="Weight of the hint: a number, `auto` or `published`."
    )
    kd_weight: PartWeight = 0.9
    """Weight of the soft targets in the second stage; with 0 only the labels train it."""
    temperature: Temperature = 4.0
    """Temperature of the soft targets in the second stage."""

    @property
    def teaches_classifier(self) -> bool:
        """Whether the second stage trains the classifier on soft targets."""
        return self.two_stage and self.kd_weight > 0
