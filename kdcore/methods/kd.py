"""Soft targets: Hinton, Vinyals & Dean 2015, https://arxiv.org/abs/1503.02531."""

from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Batch
from kdcore.methods.common.full_precision import at_least_float32
from kdcore.methods.common.logit_method import LogitMethod, standardize

__all__ = ["KDMethod", "kd", "standardize"]


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher/T) ‖ softmax(student/T)), summed over classes, mean over the batch.

    Both logits are (B, C); the scalar is in nats. T² keeps the gradient's size as T changes (Hinton
    2015, section 2). It is computed from log-probabilities, so it is finite for all finite
    logits.
    """
    s = functional.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    t = functional.log_softmax(at_least_float32(teacher_logits) / temperature, dim=1)
    return temperature**2 * functional.kl_div(s, t, reduction="batchmean", log_target=True)


class KDMethod(LogitMethod):
    """One term, ``kd``."""

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``kd`` of logits (B, C) at the job's temperature."""
        return {"kd": kd(s, t, temperature=self.temperature)}
