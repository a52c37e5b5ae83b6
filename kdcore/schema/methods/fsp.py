"""Parameters of the method ``fsp``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class FSP(MethodParams):
    """The flow between layers: how features change from one stage to the next.

    Choose it when the student should solve the task by the same steps, for networks with similar
    stages. It needs at least two feature maps.
    """

    group = "features"
    needs = ("maps",)
    paper = (
        "https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html"
    )
    when_to_use = "When the student should solve the task by the teacher's steps."
    formula = "sum over pairs of maps of mean (G_s - G_t)², G = F_1 F_2ᵀ / (H·W)"
    one_teacher = True
    min_maps = 2
    target_share = 0.8
    """With noisy labels it gains what the published weight gains."""

    type: Literal["fsp"]
    between: Literal["neighbors", "ends"] = "neighbors"
    """Pairs of consecutive maps, or only the first and the last map."""
    weight: Weight = 50.0
