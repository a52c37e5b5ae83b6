"""Variational information distillation: Ahn et al. 2019, https://arxiv.org/abs/1904.05835."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.common.adapters import mean_regressor
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps, sum_terms
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.resize import same_size
from kdcore.schema.methods.vid import VID

EPS = 1e-5
"""The smallest variance."""


@full_precision
def vid(mean: Tensor, log_scale: Tensor, teacher_map: Tensor, *, eps: float) -> Tensor:
    """Mean of ½ [(mean - teacher)² / var + log var], var = softplus(log_scale) + eps.

    ``mean`` and ``teacher_map`` are (B, C, H, W), ``log_scale`` has one number per channel. Where
    mean and teacher are equal it is ½ mean log var, so its smallest value is ½ log eps. Raises
    ``ValueError`` where the shapes differ.
    """
    if mean.shape != teacher_map.shape:
        raise ValueError(
            f"vid compares maps of equal shape: the prediction is {tuple(mean.shape)}, the "
            f"teacher's map {tuple(teacher_map.shape)}"
        )
    variance = (functional.softplus(log_scale) + eps).view(1, -1, 1, 1)
    return 0.5 * ((mean - teacher_map).square() / variance + variance.log()).mean()


def log_scale_of(variance: float, *, eps: float) -> float:
    """The ``log_scale`` at which a channel has this ``variance``."""
    x = variance - eps
    return x + math.log(-math.expm1(-x))


class VIDMethod(FeatureMapMethod):
    """One term, ``vid``, summed over the maps. Regressors and variances are trained."""

    regressors: nn.ModuleList
    log_scales: nn.ParameterList

    def __init__(self, params: VID) -> None:
        super().__init__(params)
        self.initial_log_scale = log_scale_of(params.initial_variance, eps=EPS)

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """For each pair of maps a regressor of the mean, and a variance for each channel."""
        pairs = zip(student, teacher, strict=True)
        self.regressors = nn.ModuleList(mean_regressor(s, t) for s, t in pairs)
        self.log_scales = nn.ParameterList(
            nn.Parameter(torch.full((t.shape[1],), self.initial_log_scale)) for t in teacher
        )

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``vid`` of all pairs of maps."""
        losses = []
        for i, regressor in enumerate(self.regressors):
            mean, target = same_size(regressor(student[i]), teacher[i])
            losses.append(vid(mean, self.log_scales[i], target, eps=EPS))
        return {"vid": sum_terms(losses)}
