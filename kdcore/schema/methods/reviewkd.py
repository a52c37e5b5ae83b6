"""Parameters of the method ``reviewkd``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class ReviewKD(MethodParams):
    """Review: deep and shallow maps of the student together match the teacher's maps.

    Choose it when accuracy counts more than training time: it is among the strongest feature
    methods and trains the largest modules. Attention fuses the student's maps from deep to shallow.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/2104.09044"
    when_to_use = "When accuracy counts more than training time, and the networks have stages."
    formula = (
        "sum over maps of the mean squared error at full size and pooled to 4, 2 and 1 (weights "
        "1, ½, ¼, ⅛, over their sum), the student's maps fused from deep to shallow"
    )
    one_teacher = True
    min_maps = 1
    target_share = 0.8
    """0.5 gained a third of what the published weight gains with noisy labels; 0.8 gains all."""

    type: Literal["reviewkd"]
    max_channels: Annotated[int, Field(ge=1, le=65536)] = 512
    """Largest number of channels of the fused maps."""
    weight: Weight = 5.0
