"""Logits without their scale: Sun et al. 2024, https://arxiv.org/abs/2403.01427."""

from torch import Tensor

from kdcore.methods.common.full_precision import at_least_float32

_TINY = 1e-7
"""Added to the deviation: logits that are all equal become zeros instead of NaN."""


def standardize(logits: Tensor) -> Tensor:
    """Each row of ``logits`` (B, C) brought to mean 0 and (unbiased) deviation 1."""
    z = at_least_float32(logits)
    centered = z - z.mean(dim=1, keepdim=True)
    return centered / (_TINY + z.std(dim=1, keepdim=True))
