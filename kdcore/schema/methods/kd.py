"""Parameters of the method ``kd``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Standardized, Temperature, Weight


class KD(MethodParams):
    """Soft targets: the student matches the teacher's softened class probabilities.

    The first choice for any pair whose classes are the same. Loss: T² · KL(teacher ‖ student),
    summed over classes, mean over the batch, both softened by the temperature T.
    """

    group = "logits"
    needs = ("logits",)
    default_label_weight = 0.1
    paper = "https://arxiv.org/abs/1503.02531"
    when_to_use = "First, for any pair whose classes are the same."
    formula = "T² · mean_b KL(p_t ‖ p_s), p = softmax(z / T)"

    type: Literal["kd"]
    temperature: Temperature = 4.0
    """T. Higher shows more of what the teacher thinks of the wrong classes."""
    weight: Weight = 0.9
    logit_standardization: Standardized = False
