"""Knowledge review: Chen et al. 2021, https://arxiv.org/abs/2104.09044."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.common.adapters import pointwise
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps, sum_terms
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.resize import enlarge_to, pool_to, same_size, size_of
from kdcore.schema.methods.reviewkd import ReviewKD

_POOLED = (4, 2, 1)


@full_precision
def hierarchical(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the mean squared error at full size and pooled to 4, 2 and 1.

    Weights are 1, ½, ¼, ⅛ in turn, over the sum of those used; a size that is not smaller than the
    map is left out and does not halve the next. Maps are (B, C_i, H_i, W_i) with equal channels;
    where sizes differ, the larger is average-pooled. 0 when both are equal. Raises ``ValueError``
    where levels or channels do not match.
    """
    channels = [
        [feature_map.shape[1] for feature_map in maps] for maps in (student_maps, teacher_maps)
    ]
    if channels[0] != channels[1]:
        raise ValueError(
            f"levels must match: the student's have {channels[0]} channels, the teacher's "
            f"{channels[1]}"
        )
    return sum_terms([_level(s, t) for s, t in zip(student_maps, teacher_maps, strict=True)])


def _level(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = same_size(student, teacher)
    smallest = min(size_of(s))
    weight, weights, losses = 1.0, 1.0, [functional.mse_loss(s, t)]
    for size in _POOLED:
        if size < smallest:
            weight /= 2
            weights += weight
            pooled = functional.mse_loss(pool_to(s, (size, size)), pool_to(t, (size, size)))
            losses.append(weight * pooled)
    return sum_terms(losses) / weights


class FusionLevel(nn.Module):
    """One level: the student's map, fused with the maps of deeper levels if there are any."""

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, *, fuses: bool
    ) -> None:
        super().__init__()
        self.enter = pointwise(in_channels, mid_channels)
        self.attend = (
            nn.Sequential(nn.Conv2d(2 * mid_channels, 2, 1), nn.Sigmoid()) if fuses else None
        )
        self.leave = nn.Sequential(
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Two fused maps: (B, out_channels, H, W) to compare with the teacher's, and
        (B, mid_channels, H, W) for the next level."""
        fused = self.enter(x)
        if self.attend is not None and deeper is not None:
            deeper = enlarge_to(deeper, size_of(fused))
            shares = self.attend(torch.cat([fused, deeper], dim=1))  # (B, 2, H, W)
            fused = fused * shares[:, :1] + deeper * shares[:, 1:]
        return self.leave(fused), fused


class ReviewKDMethod(FeatureMapMethod):
    """One term, ``reviewkd``, of the maps fused from deep to shallow."""

    levels: nn.ModuleList

    def __init__(self, params: ReviewKD) -> None:
        super().__init__(params)
        self.max_channels = params.max_channels

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """One fusion for each level, with the channels of the student's deepest map."""
        mid_channels = min(self.max_channels, student[-1].shape[1])
        deepest = len(student) - 1
        self.levels = nn.ModuleList(
            FusionLevel(s.shape[1], mid_channels, t.shape[1], fuses=level < deepest)
            for level, (s, t) in enumerate(zip(student, teacher, strict=True))
        )

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``reviewkd`` of all maps."""
        deeper: Tensor | None = None
        reviewed: list[Tensor] = []
        for level in reversed(range(len(student))):
            out, deeper = self.levels[level](student[level], deeper)
            reviewed.append(out)
        return {"reviewkd": hierarchical(reviewed[::-1], teacher)}
