"""Parameters of the method ``similarity``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class Similarity(MethodParams):
    """Similarity-preserving KD: samples are as similar for the student as for the teacher.

    Choose it when the maps of the two networks are not comparable: it compares only similarities
    of samples within the batch, from the last maps, which may have any shapes.
    """

    group = "relations"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1907.09682"
    when_to_use = (
        "When the maps of the two networks are not comparable, only similarities of samples."
    )
    formula = "‖Ĝ_s - Ĝ_t‖² / B², Ĝ = F Fᵀ with rows of unit length"
    min_batch = 2
    one_teacher = True
    min_maps = 1
    target_share = 0.1
    """0.5 and more end below labels alone: its gradient lies across theirs."""

    type: Literal["similarity"]
    weight: Weight = 3000.0
