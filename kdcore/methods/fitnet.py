"""Hints: Romero et al. 2015, "FitNets", https://arxiv.org/abs/1412.6550."""

from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.base import Batch, Outputs, Stage
from kdcore.methods.common.adapters import regressor
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.resize import same_size
from kdcore.methods.kd import kd
from kdcore.runtime.errors import UserError
from kdcore.schema.methods.fitnet import FitNet

HINT, SOFT_TARGETS = "fitnet_hint", "fitnet_kd"


@full_precision
def hint(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean of (student - teacher)² over all of two maps (B, C, H, W) of one shape.

    The student's map has been through a regressor. 0 when both are equal. Raises ``ValueError``
    where the shapes differ.
    """
    if student_map.shape != teacher_map.shape:
        raise ValueError(
            f"a hint compares maps of equal shape: the student's is {tuple(student_map.shape)}, "
            f"the teacher's {tuple(teacher_map.shape)}; add a regressor"
        )
    return functional.mse_loss(student_map, teacher_map)


class FitNetMethod(FeatureMapMethod):
    """Terms ``fitnet_hint`` and, with two stages, ``fitnet_kd``.

    As in the paper, the first stage trains the layers up to the hint on the hint alone, and the
    second stage trains on soft targets. With one stage, hint and labels train together.
    """

    regressor: nn.Module

    def __init__(self, params: FitNet) -> None:
        super().__init__(params)
        self.params = params
        self.tap = 0

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """Raises ``UserError`` (student_incompatible) where the tap does not exist."""
        chosen = self.params.tap
        if chosen is not None and chosen >= len(student):
            raise UserError(
                "student_incompatible",
                f"fitnet's tap is {chosen}, and this pair has the feature maps 0 to "
                f"{len(student) - 1}",
                hint="Choose a tap that exists, or leave it out for the middle one.",
            )
        self.tap = len(student) // 2 if chosen is None else chosen
        self.regressor = regressor(student[self.tap], teacher[self.tap])

    def stages(self) -> tuple[Stage, ...]:
        """The hint alone, then all other terms; or one stage with all terms."""
        if not self.params.two_stage:
            return (Stage(1.0),)
        first = self.params.stage_one
        return (
            Stage(first, only_terms=frozenset({HINT})),
            Stage(1.0 - first, excluded_terms=frozenset({HINT})),
        )

    def weight_of(self, term: str, epoch: int) -> float:
        """The soft targets have the weight ``kd_weight``."""
        return self.params.kd_weight if term == SOFT_TARGETS else self.weight

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The hint's term and, with two stages, kd's."""
        terms = super().forward(student, teacher, batch)
        if self.params.two_stage and teacher is not None:
            temperature = self.params.temperature
            soft = kd(student.logits, teacher.logits.detach(), temperature=temperature)
            terms[SOFT_TARGETS] = soft
        return terms

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """``fitnet_hint`` of the chosen pair of maps."""
        return {HINT: hint(*same_size(self.regressor(student[self.tap]), teacher[self.tap]))}
