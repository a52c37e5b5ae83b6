"""Similarity-preserving KD: Tung & Mori 2019, https://arxiv.org/abs/1907.09682."""

from torch import Tensor
from torch.nn import functional

from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize, require_two_samples


@full_precision
def similarity(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """‖Ĝ_s - Ĝ_t‖²_F / B², Ĝ = F Fᵀ with rows of unit length, F the maps flattened.

    Maps are (B, C, H, W) of any two shapes. 0 when both are equal. Raises ``ValueError`` for a
    batch of one.
    """
    require_two_samples(student_map, "similarity")
    return functional.mse_loss(_gram(student_map), _gram(teacher_map))


def _gram(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return l2_normalize(flat @ flat.T, dim=1)  # (B, B)


class SimilarityMethod(FeatureMapMethod):
    """One term, ``similarity``, of the last maps."""

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``similarity`` of the last pair of maps."""
        return {"similarity": similarity(student[-1], teacher[-1])}
