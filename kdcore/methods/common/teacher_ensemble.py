"""Combine the logits of several teachers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Outputs
from kdcore.methods.common.full_precision import at_least_float32


def mean_logits(logits: Sequence[Tensor], weights: Sequence[float], temperature: float) -> Tensor:
    """T · log Σ_k w_k softmax(z_k / T), whose softmax at T is the weighted mean of the teachers'.

    ``logits`` are (B, C) each; ``weights`` are scaled to sum to 1. The result is (B, C).
    """
    total = sum(weights)
    shares = [
        functional.log_softmax(at_least_float32(z) / temperature, dim=1)
        + torch.tensor(weight / total, dtype=torch.float64).log().item()
        for z, weight in zip(logits, weights, strict=True)
    ]
    return temperature * torch.stack(shares).logsumexp(dim=0)


def combine_teachers(
    teachers: Sequence[Outputs], weights: Sequence[float], temperature: float
) -> Outputs:
    """The mean outputs of several teachers; a single teacher's outputs are returned unchanged."""
    if len(teachers) == 1:
        return teachers[0]
    return Outputs(mean_logits([teacher.logits for teacher in teachers], weights, temperature))
