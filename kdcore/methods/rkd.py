"""Relational KD: Park et al. 2019, https://arxiv.org/abs/1904.05068."""

import math

from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Batch
from kdcore.methods.common import linalg
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.pooled_method import PooledMethod
from kdcore.schema.methods.rkd import RKD

DISTANCE, ANGLE = "rkd_distance", "rkd_angle"


@full_precision
def distance(s: Tensor, t: Tensor) -> Tensor:
    """Smooth-L1 of all pairs' distances, each over the mean of the positive ones; mean over B².

    Features are (B, D_s) and (B, D_t), without normalization. 0 when they are equal up to scale.
    Needs memory for B² · D numbers. Raises ``ValueError`` for a batch of one.
    """
    linalg.require_two_samples(s, "rkd.distance")
    return functional.smooth_l1_loss(_distances(s), _distances(t))


def _distances(x: Tensor) -> Tensor:
    # |a|² + |b|² - 2ab would lose the distances of near samples to rounding.
    d = linalg.l2_distance(x.unsqueeze(1), x.unsqueeze(0))  # (B, B)
    mean = d.sum() / (d > 0).sum().clamp_min(1)
    # In a batch of equal samples all distances are 0.
    return d / mean.masked_fill(mean == 0, math.inf)


@full_precision
def angle(s: Tensor, t: Tensor) -> Tensor:
    """Smooth-L1 of the cosines at every sample between any two others; mean over B³.

    Features are (B, D_s) and (B, D_t). 0 when they are equal up to scale and translation.
    Needs memory for B³ + B² · D numbers. Raises ``ValueError`` for a batch of one.
    """
    linalg.require_two_samples(s, "rkd.angle")
    return functional.smooth_l1_loss(_cosines(s), _cosines(t))


def _cosines(x: Tensor) -> Tensor:
    directions = linalg.l2_normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)  # (B, B, D)
    return directions @ directions.mT  # (B, B, B)


class RKDMethod(PooledMethod):
    """Terms ``rkd_distance`` and ``rkd_angle``, each with its weight inside the method's."""

    def __init__(self, params: RKD) -> None:
        super().__init__(params)
        self.term_weights = {DISTANCE: params.distance_weight, ANGLE: params.angle_weight}

    def weight_of(self, term: str, epoch: int) -> float:
        """The term's own weight times the method's."""
        return self.weight * self.term_weights[term]

    def terms(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of pooled features."""
        return {DISTANCE: distance(student, teacher), ANGLE: angle(student, teacher)}
