"""Neuron selectivity transfer: Huang & Wang 2017, https://arxiv.org/abs/1707.01219."""

from torch import Tensor, nn

from kdcore.methods.common.adapters import channel_adapter
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps, sum_terms
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize
from kdcore.methods.common.resize import same_size


@full_precision
def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Maximum mean discrepancy of channels: mean k(t,t) + mean k(s,s) - 2 mean k(s,t).

    k(a, b) = (âᵀb̂)² of channels' maps at unit length, within each sample. Maps are (B, C, H, W)
    and may differ in channels; where they differ in size, the larger is average-pooled. 0 when both
    are equal, up to rounding.
    """
    s, t = same_size(student_map, teacher_map)
    s, t = l2_normalize(s.flatten(2), dim=2), l2_normalize(t.flatten(2), dim=2)  # (B, C, H * W)
    positions, channels = s.shape[2], max(s.shape[1], t.shape[1])
    return nst_by_positions(s, t) if positions <= channels else nst_by_channels(s, t)


def nst_by_channels(s: Tensor, t: Tensor) -> Tensor:
    """The discrepancy of unit-length maps (B, C, H·W), from C² products in each sample."""
    return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT).square().mean()


def nst_by_positions(s: Tensor, t: Tensor) -> Tensor:
    """The same discrepancy from (H·W)² products, because Σ (aᵀb)² = <Σ aaᵀ, Σ bbᵀ>.

    Cheaper for wide networks: they have, for example, 2048 channels at 49 positions.
    """
    second_s, second_t = s.mT @ s / s.shape[1], t.mT @ t / t.shape[1]
    return (second_s - second_t).square().sum() / len(s)


class NSTMethod(FeatureMapMethod):
    """One term, ``nst``, summed over the maps."""

    adapters: nn.ModuleList

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """Where channels differ, a 1 x 1 convolution on the student's map."""
        pairs = zip(student, teacher, strict=True)
        self.adapters = nn.ModuleList(channel_adapter(s, t) for s, t in pairs)

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``nst`` of all pairs of maps."""
        triples = zip(self.adapters, student, teacher, strict=True)
        return {"nst": sum_terms([nst(adapter(s), t) for adapter, s, t in triples])}
