"""Correlations within a batch: the class and batch terms of Jin, Wang & Lin 2023.

"Multi-Level Logit Distillation", CVPR 2023, sections 3.2 and 3.3.
"""

from torch import Tensor

from kdcore.methods.base import Batch
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.logit_method import LogitMethod


@full_precision
def batch_logits(s: Tensor, t: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Class term ‖PᵀP_t - PᵀP_s‖²_F / C and sample term ‖PPᵀ_t - PPᵀ_s‖²_F / B.

    P = softmax(z / T), (B, C), of logits (B, C). Both are 0 when the logits are equal. The
    class term needs memory for C² numbers.
    """
    p_s, p_t = (s / temperature).softmax(dim=1), (t / temperature).softmax(dim=1)
    classes = (p_t.T @ p_t - p_s.T @ p_s).square().sum() / s.shape[1]
    samples = (p_t @ p_t.T - p_s @ p_s.T).square().sum() / len(s)
    return classes, samples


class BatchLogitsMethod(LogitMethod):
    """Two terms, ``batch_logits_class`` and ``batch_logits_sample``, of equal weight."""

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits (B, C)."""
        classes, samples = batch_logits(s, t, temperature=self.temperature)
        return {"batch_logits_class": classes, "batch_logits_sample": samples}
