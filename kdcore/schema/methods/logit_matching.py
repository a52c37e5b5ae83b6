"""Parameters of the method ``logit_matching``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Standardized, Weight


class LogitMatching(MethodParams):
    """The student matches the teacher's logits directly: mean squared error.

    Choose it when the scale of the logits matters, for instance when they are used as scores.
    """

    group = "logits"
    needs = ("logits",)
    paper = "https://papers.nips.cc/paper/5484-do-deep-nets-really-need-to-be-deep"
    when_to_use = "When the scale of the logits matters, for instance when they are used as scores."
    formula = "mean (z_s - z_t)²"
    compares_all_logits = True
    target_share = 0.8
    """With noisy labels it gains what the published weight gains."""

    type: Literal["logit_matching"]
    weight: Weight = 1.0
    logit_standardization: Standardized = False
