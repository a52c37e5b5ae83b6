"""Correlation congruence: Peng et al. 2019, https://arxiv.org/abs/1904.01802."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.base import Batch, DataFacts
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize, require_two_samples
from kdcore.methods.common.pooled_method import PooledMethod
from kdcore.schema.methods.correlation import Correlation


@full_precision
def correlation(s: Tensor, t: Tensor) -> Tensor:
    """mean_i Σ_c |Δ_i| · |Δ_(i+1)|, Δ = s - t, over samples that follow each other in the batch.

    The form of the widely used code. Both features are (B, D). 0 when both are equal. Raises
    ``ValueError`` for a batch of one, and where D differs.
    """
    require_two_samples(s, "correlation")
    if s.shape != t.shape:
        raise ValueError(
            f"features must have the same shape: the student's have {tuple(s.shape)}, the "
            f"teacher's {tuple(t.shape)}; map them to one size with an embedding"
        )
    error = (s - t).abs()
    return (error[:-1] * error[1:]).sum(dim=1).mean()


@full_precision
def gaussian(s: Tensor, t: Tensor, *, gamma: float) -> Tensor:
    """Mean over B² of (K_s - K_t)², K = exp(-gamma · ‖a - b‖²) of features at unit length.

    The paper's form (equations 5 and 9), with the kernel itself in place of its Taylor series.
    Features are (B, D_s) and (B, D_t). 0 when both are equal. Raises ``ValueError`` for a batch of
    one.
    """
    require_two_samples(s, "correlation.gaussian")
    return functional.mse_loss(_kernel(s, gamma), _kernel(t, gamma))


def _kernel(x: Tensor, gamma: float) -> Tensor:
    direction = l2_normalize(x, dim=1)
    # ‖a - b‖² = 2 - 2ab at unit length. Without a square root, the gradient at 0 is defined.
    return (2 * gamma * (direction @ direction.T - 1)).exp()


class CorrelationMethod(PooledMethod):
    """One term, ``correlation``.

    For ``product``, teacher features of more than ``embedding_dim`` numbers pass through a fixed
    random projection, and student features of another size through a trained linear embedding.
    Only the student's side is trained, because two trained sides could agree on zeros.
    """

    projection: Tensor | None

    def __init__(self, params: Correlation) -> None:
        super().__init__(params)
        self.params = params
        self.embedding: nn.Module = nn.Identity()
        self.register_buffer("projection", None)

    def build_embeddings(self, student_dim: int, teacher_dim: int, data: DataFacts) -> None:
        """Embeddings to a common size, for ``product``."""
        if self.params.form == "gaussian":
            return
        dim = min(teacher_dim, self.params.embedding_dim)
        if dim < teacher_dim:
            self.projection = torch.randn(teacher_dim, dim) / math.sqrt(teacher_dim)
        if student_dim != dim or self.projection is not None:
            self.embedding = nn.Linear(student_dim, dim)

    def terms(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``correlation`` of pooled features."""
        if self.params.form == "gaussian":
            return {"correlation": gaussian(student, teacher, gamma=self.params.gamma)}
        projected = teacher if self.projection is None else teacher @ self.projection
        return {"correlation": correlation(self.embedding(student), projected)}
