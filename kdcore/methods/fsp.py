"""The flow of the solution procedure: Yim et al. 2017, "A Gift from Knowledge Distillation"."""

from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.common.adapters import channel_adapter
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps, sum_terms
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.resize import same_size, size_of
from kdcore.schema.methods.fsp import FSP

MapPair = tuple[Tensor, Tensor]


@full_precision
def fsp(student_maps: MapPair, teacher_maps: MapPair) -> Tensor:
    """Mean of (G_s - G_t)², G = F_1 F_2ᵀ / (H·W) between two maps of one network.

    Each pair is (B, C_1, H_1, W_1) and (B, C_2, H_2, W_2); the larger of a pair is average-pooled.
    Both networks need equal channels; sizes may differ. 0 when both are equal. Raises
    ``ValueError`` where channels differ.
    """
    flow_s, flow_t = _flow(*student_maps), _flow(*teacher_maps)
    if flow_s.shape != flow_t.shape:
        raise ValueError(
            f"fsp needs maps of equal channels: the student's pair has {tuple(flow_s.shape[1:])}, "
            f"the teacher's {tuple(flow_t.shape[1:])}; add an adapter"
        )
    return functional.mse_loss(flow_s, flow_t)


def _flow(first: Tensor, second: Tensor) -> Tensor:
    first, second = same_size(first, second)
    height, width = size_of(first)
    return first.flatten(2) @ second.flatten(2).mT / (height * width)  # (B, C_1, C_2)


class FSPMethod(FeatureMapMethod):
    """One term, ``fsp``, summed over the pairs of maps."""

    adapters: nn.ModuleList

    def __init__(self, params: FSP) -> None:
        super().__init__(params)
        self.between = params.between

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """Where channels differ, a 1 x 1 convolution on the student's map."""
        pairs = zip(student, teacher, strict=True)
        self.adapters = nn.ModuleList(channel_adapter(s, t) for s, t in pairs)

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``fsp`` of neighboring maps, or of the first and the last."""
        last = len(student) - 1
        neighbors = [(i, i + 1) for i in range(last)]
        pairs = neighbors if self.between == "neighbors" else [(0, last)]
        adapted = {i: self.adapters[i](student[i]) for i in sorted({i for p in pairs for i in p})}
        losses = [fsp((adapted[i], adapted[j]), (teacher[i], teacher[j])) for i, j in pairs]
        return {"fsp": sum_terms(losses)}
