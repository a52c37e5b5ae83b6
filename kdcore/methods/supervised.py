"""Cross-entropy alone: the labels teach, no teacher is asked."""

from typing import ClassVar

from torch import Tensor

from kdcore.methods.base import Batch, Method, Outputs
from kdcore.methods.registry import register
from kdcore.schema.methods import Need, Supervised


@register("supervised")
class SupervisedMethod(Method):
    """Has no term of its own: the objective adds cross-entropy, at the job's ``label_weight``."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "target"})
    uses_teacher: ClassVar[bool] = False

    def __init__(self, params: Supervised) -> None:
        super().__init__()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """No terms."""
        return {}
