"""Parameters of the method ``similarity``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class Similarity(MethodParams):
    """Similarity-preserving KD: samples alike to the teacher are alike to the student.

    Choose it when maps of the two networks have nothing in common but the samples: only
    similarities within the batch are compared, of the last maps, and any two shapes fit.
    """

    group = "relations"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1907.09682"
    when_to_use = "When the maps of the two networks have nothing in common but the samples."
    formula = "‖Ĝ_s - Ĝ_t‖² / B², Ĝ = F Fᵀ with rows of unit length"
    min_batch = 2
    one_teacher = True
    min_maps = 1

    type: Literal["similarity"]
    weight: Weight = 3000.0
