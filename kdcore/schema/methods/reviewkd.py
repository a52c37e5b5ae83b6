"""Parameters of the method ``reviewkd``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class ReviewKD(MethodParams):
    """Review: the student's deep maps help its shallow ones to match the teacher's.

    Choose it when feature methods are worth their cost: among the strongest of them, with the
    largest modules to train. The student's maps are fused from deep to shallow by attention.
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

    type: Literal["reviewkd"]
    max_channels: Annotated[int, Field(ge=1, le=65536)] = 512
    """Channels of the fused maps, at most."""
    weight: Weight = 5.0
