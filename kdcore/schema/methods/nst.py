"""Parameters of the method ``nst``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class NST(MethodParams):
    """Neuron selectivity: the student's channels are active at the positions of the teacher's.

    Choose it when channels do not correspond one to one: it compares distributions over the
    channels instead of single channels.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1707.01219"
    when_to_use = "When channels of student and teacher do not correspond one to one."
    formula = (
        "sum over maps of mean k(t,t) + mean k(s,s) - 2 mean k(s,t), k = (âᵀb̂)² of channels at "
        "unit length"
    )
    one_teacher = True
    min_maps = 1
    target_share = 0.8
    """With noisy labels it gains 2.6 points."""

    type: Literal["nst"]
    weight: Weight = 50.0
