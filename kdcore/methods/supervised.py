"""Cross-entropy with the labels alone, without a teacher."""

from torch import Tensor

from kdcore.methods.base import Batch, Method, Outputs


class SupervisedMethod(Method):
    """Has no term of its own: the objective adds cross-entropy, at the job's ``label_weight``."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """No terms."""
        return {}
