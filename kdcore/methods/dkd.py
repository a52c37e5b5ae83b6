"""Decoupled soft targets: Zhao et al. 2022, https://arxiv.org/abs/2203.08679."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Batch, DataFacts, Outputs
from kdcore.methods.common.cross_entropy import all_labels, hard_labels, require_labels
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.logit_method import LogitMethod
from kdcore.schema.methods.dkd import DKD, WARMUP_EPOCHS


@full_precision
def dkd(
    s: Tensor, t: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """T² · mean_b [alpha · KL(b_t ‖ b_s) + beta · KL(q_t ‖ q_s)].

    b = (p_y, 1 - p_y) with p = softmax(z / T) and y the true class; q is the softmax over the other
    classes. Logits are (B, C), ``target`` (B,). With two classes q is always (1), so the second
    part is 0. It is computed in log space, so a confident student does not make it infinite. Raises
    ``ValueError`` for an image without a label.
    """
    require_labels(target, s.shape[1], "dkd")
    true = target.unsqueeze(1) == torch.arange(s.shape[1], device=s.device)  # (B, C)
    binary_s, others_s = _split(s / temperature, true)
    binary_t, others_t = _split(t / temperature, true)
    first = binary_t.exp() * (binary_t - binary_s)
    # exp(-inf) = 0 leaves the true class out; a mask after the product would give 0 · inf.
    second = others_t.masked_fill(true, -math.inf).exp() * (others_t - others_s)
    return temperature**2 * (alpha * first.sum() + beta * second.sum()) / len(s)


def _split(z: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """log b (B, 2), and log q (B, C), which is undefined at the true class."""
    log_p = functional.log_softmax(z, dim=1)
    of_true = log_p.masked_fill(~true, -math.inf).logsumexp(dim=1)
    of_others = log_p.masked_fill(true, -math.inf).logsumexp(dim=1)
    return torch.stack([of_true, of_others], dim=1), log_p - of_others.unsqueeze(1)


class DKDMethod(LogitMethod):
    """One term, ``dkd``, whose weight rises over the first epochs."""

    def __init__(self, params: DKD) -> None:
        super().__init__(params)
        self.alpha = params.alpha
        self.beta = params.beta
        self.warmup = (
            WARMUP_EPOCHS if params.warmup_epochs is None else max(1, params.warmup_epochs)
        )

    def build(self, student: Outputs, teacher: Outputs | None, data: DataFacts) -> None:
        """Raises ``UserError`` (dataset_invalid) where an image has no label."""
        all_labels(data, "dkd")

    def weight_of(self, term: str, epoch: int) -> float:
        """The weight rises linearly until epoch ``warmup``."""
        return self.weight * min(epoch / self.warmup, 1.0)

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``dkd`` of logits (B, C)."""
        target = hard_labels(batch, "dkd")
        temperature = self.temperature
        loss = dkd(s, t, target, alpha=self.alpha, beta=self.beta, temperature=temperature)
        return {"dkd": loss}
