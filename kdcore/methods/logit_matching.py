"""Logits matched directly: Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?"."""

from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Batch
from kdcore.methods.common.full_precision import at_least_float32
from kdcore.methods.common.logit_method import LogitMethod


def logit_matching(s: Tensor, t: Tensor) -> Tensor:
    """Mean over batch and classes of (s - t)², for student and teacher logits (B, C).

    0 when both are equal.
    """
    return functional.mse_loss(at_least_float32(s), at_least_float32(t))


class LogitMatchingMethod(LogitMethod):
    """One term, ``logit_matching``. Several teachers are averaged as probabilities, at T = 1."""

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``logit_matching`` of logits (B, C)."""
        return {"logit_matching": logit_matching(s, t)}
