"""Parameters of the method ``supervised``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams


class Supervised(MethodParams):
    """Cross-entropy with the true labels only: for teachers and for baselines."""

    group = "labels"
    needs = ("logits", "target")
    when_to_use = "To train a teacher, or a student to compare the distilled one with."
    formula = "cross-entropy with the labels"
    uses_teacher = False

    type: Literal["supervised"]
