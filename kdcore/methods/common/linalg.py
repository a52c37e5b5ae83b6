"""Norms and distances of vectors with defined gradients at 0."""

import math

from torch import Tensor
from torch.linalg import vector_norm

_TINY = 1e-12
"""Shorter vectors count as zero."""


def l2_normalize(x: Tensor, dim: int, *, eps: float = 0.0) -> Tensor:
    """``x`` divided by its L2 norm plus ``eps`` along ``dim``.

    A zero vector stays zero and gets no gradient; division by a small number would give 1e12.
    """
    norm: Tensor = vector_norm(x, dim=dim, keepdim=True)
    return x / (norm + eps).masked_fill(norm <= _TINY, math.inf)


def l2_distance(a: Tensor, b: Tensor) -> Tensor:
    """L2 distance along the last dimension; where it is 0, the gradient is 0 as well."""
    length: Tensor = vector_norm(a - b, dim=-1)
    return length


def require_two_samples(x: Tensor, loss: str) -> None:
    """Raise ``ValueError`` where ``x`` (B, ...) is a batch of one: ``loss`` compares samples."""
    if len(x) < 2:
        raise ValueError(
            f"{loss} compares the samples of a batch, and this is a batch of {len(x)}; "
            "use batches of two or more"
        )
