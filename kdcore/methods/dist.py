"""Correlation instead of equality: Huang et al. 2022, https://arxiv.org/abs/2205.10536."""

from torch import Tensor
from torch.linalg import vector_norm

from kdcore.methods.base import Batch
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import require_two_samples
from kdcore.methods.common.logit_method import LogitMethod
from kdcore.schema.methods.dist import DIST

_ADDED = 1e-8
"""Added to the product of two norms."""
_CONSTANT = 1e-7
"""Deviations below it are rounding errors: they count as uncorrelated and get no gradient."""


@full_precision
def dist(s: Tensor, t: Tensor, *, beta: float, gamma: float, temperature: float) -> Tensor:
    """T² · [beta · (1 - mean over samples of corr) + gamma · (1 - mean over classes of corr)].

    corr is Pearson's correlation of the student's and the teacher's softmax(z / T): of one sample's
    classes, and of one class's samples. Logits are (B, C). 0 when both are equal. Raises
    ``ValueError`` for a batch of one.
    """
    require_two_samples(s, "dist")
    p_s, p_t = (s / temperature).softmax(dim=1), (t / temperature).softmax(dim=1)
    between = 1 - _correlation(p_s, p_t).mean()
    within = 1 - _correlation(p_s.T, p_t.T).mean()
    return temperature**2 * (beta * between + gamma * within)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation (R,) of the rows of two matrices (R, N)."""
    a, b = _center(a), _center(b)
    norms: Tensor = vector_norm(a, dim=1) * vector_norm(b, dim=1)
    return (a * b).sum(dim=1) / (norms + _ADDED)


def _center(x: Tensor) -> Tensor:
    x = x - x.mean(dim=1, keepdim=True)
    return x.masked_fill(vector_norm(x.detach(), dim=1, keepdim=True) <= _CONSTANT, 0.0)


class DISTMethod(LogitMethod):
    """One term, ``dist``."""

    def __init__(self, params: DIST) -> None:
        super().__init__(params)
        self.beta = params.beta
        self.gamma = params.gamma

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``dist`` of logits (B, C)."""
        loss = dist(s, t, beta=self.beta, gamma=self.gamma, temperature=self.temperature)
        return {"dist": loss}
