"""Cross-entropy with the labels alone, without a teacher."""

from torch import Tensor

from kdcore.methods.base import Batch, Method, Outputs


class SupervisedMethod(Method):
    """No terms: the objective adds cross-entropy with the job's ``label_weight``."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """No terms."""
        return {}
