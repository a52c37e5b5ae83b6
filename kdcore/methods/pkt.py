"""Probabilistic knowledge transfer: Passalis & Tefas 2018, https://arxiv.org/abs/1803.10837."""

from torch import Tensor

from kdcore.methods.base import Batch
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize, require_two_samples
from kdcore.methods.common.pooled_method import PooledMethod

_EPS = 1e-7


@full_precision
def pkt(s: Tensor, t: Tensor) -> Tensor:
    """Mean over B² of p_t · log((p_t + ε) / (p_s + ε)), ε = 1e-7.

    p = (cos + 1) / 2 of all pairs of samples, with rows of sum 1; ε is added to the norms as well.
    Features are (B, D_s) and (B, D_t). 0 when both are equal. Raises ``ValueError`` for a batch of
    one.
    """
    require_two_samples(s, "pkt")
    p_s, p_t = _neighbor_probabilities(s), _neighbor_probabilities(t)
    return (p_t * ((p_t + _EPS).log() - (p_s + _EPS).log())).mean()


def _neighbor_probabilities(x: Tensor) -> Tensor:
    direction = l2_normalize(x, dim=1, eps=_EPS)
    # Rounding may give a cosine below -1, and then a negative probability.
    similar = ((direction @ direction.T + 1) / 2).clamp_min(0)
    return similar / similar.sum(dim=1, keepdim=True)


class PKTMethod(PooledMethod):
    """One term, ``pkt``."""

    def terms(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``pkt`` of pooled features."""
        return {"pkt": pkt(student, teacher)}
