"""Parameters of the method ``batch_logits``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Standardized, Temperature, Weight


class BatchLogits(MethodParams):
    """The student matches the teacher's similarities of classes and of samples within a batch.

    Choose it in addition to kd, which compares single samples. These are the class and batch terms
    of multi-level logit distillation. Memory grows with the square of the number of classes.
    """

    group = "logits"
    needs = ("logits",)
    paper = (
        "https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html"
    )
    when_to_use = "In addition to kd, to match similarities of classes and samples within a batch."
    formula = "‖PᵀP_t - PᵀP_s‖² / C and ‖PPᵀ_t - PPᵀ_s‖² / B, P the batch's probabilities"
    compares_all_logits = True
    target_share = 0.05
    """0.2 is below labels alone with noisy labels, and 0.5 more so."""

    type: Literal["batch_logits"]
    temperature: Temperature = 4.0
    weight: Weight = 1.0
    logit_standardization: Standardized = False
