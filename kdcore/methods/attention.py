"""Attention transfer: Zagoruyko & Komodakis 2017, https://arxiv.org/abs/1612.03928."""

from torch import Tensor

from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps, sum_terms
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_distance, l2_normalize
from kdcore.methods.common.resize import same_size
from kdcore.schema.methods.attention import Attention


@full_precision
def attention(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean over batch and positions of (q_s - q_t)², as in the authors' code.

    q is the map of mean_c f², flattened, at unit length. Maps are (B, C, H, W) and may differ in
    channels; where they differ in size, the larger is average-pooled. 0 when both are equal.
    """
    s, t = same_size(student_map, teacher_map)
    return (_attention_map(s) - _attention_map(t)).square().mean()


@full_precision
def attention_distance(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean over the batch of ‖q_s - q_t‖, as in the paper (equation 2); see :func:`attention`."""
    s, t = same_size(student_map, teacher_map)
    return l2_distance(_attention_map(s), _attention_map(t)).mean()


def _attention_map(x: Tensor) -> Tensor:
    return l2_normalize(x.square().mean(dim=1).flatten(1), dim=1)  # (B, H * W)


class AttentionMethod(FeatureMapMethod):
    """One term, ``attention``, summed over the maps."""

    def __init__(self, params: Attention) -> None:
        super().__init__(params)
        self.loss = attention if params.form == "squared" else attention_distance

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``attention`` of all pairs of maps."""
        pairs = zip(student, teacher, strict=True)
        return {"attention": sum_terms([self.loss(s, t) for s, t in pairs])}
