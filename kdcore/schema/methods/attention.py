"""Parameters of the method ``attention``."""

from typing import Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class Attention(MethodParams):
    """Attention transfer: the student's feature maps are active at the teacher's positions.

    Choose it for networks with maps of similar size; channels may differ. It is cheap and trains no
    adapters. The attention map is the mean over channels of the squared features, at unit length.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1612.03928"
    when_to_use = "For networks with maps of similar size; cheap, and trains no adapters."
    formula = "sum over maps of mean (q_s - q_t)², q = mean_c f² at unit length"
    one_teacher = True
    min_maps = 1

    type: Literal["attention"]
    form: Literal["squared", "paper"] = "squared"
    """`squared`: mean squared difference, as in the authors' code; `paper`: the distance of the
    paper, without square."""
    weight: Weight = Field(
        1000.0,
        description="A number, `auto` or `published`, which is 1000, and 2 for the form `paper`, "
        "with a similar effect.",
    )

    @property
    def published_weight(self) -> float:
        """2 for the form `paper`."""
        return 2.0 if self.form == "paper" else super().published_weight
