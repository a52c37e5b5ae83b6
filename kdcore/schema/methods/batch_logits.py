"""Parameters of the method ``batch_logits``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Standardized, Temperature, Weight


class BatchLogits(MethodParams):
    """The student matches which classes, and which samples, the teacher finds alike in a batch.

    Choose it beside kd: it adds what a whole batch shows and single samples do not. These are the
    class and batch terms of multi-level logit distillation. Memory grows with classes squared.
    """

    group = "logits"
    needs = ("logits",)
    paper = (
        "https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html"
    )
    when_to_use = (
        "Beside kd, to learn which classes and samples of a batch the teacher finds alike."
    )
    formula = "‖PᵀP_t - PᵀP_s‖² / C and ‖PPᵀ_t - PPᵀ_s‖² / B, P the batch's probabilities"
    compares_all_logits = True

    type: Literal["batch_logits"]
    temperature: Temperature = 4.0
    weight: Weight = 1.0
    logit_standardization: Standardized = False
