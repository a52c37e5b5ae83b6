"""Vectors at unit length, and what else the losses of vectors share."""

import math

from torch import Tensor
from torch.linalg import vector_norm

_TINY = 1e-12
"""A vector that is shorter has no direction."""


def l2_normalize(x: Tensor, dim: int, *, eps: float = 0.0) -> Tensor:
    """``x`` over its L2 norm (plus ``added``) along ``dim``.

    A vector of zeros stays zeros and gets no gradient: dividing it by a small number would give it
    one of 1e12.
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
