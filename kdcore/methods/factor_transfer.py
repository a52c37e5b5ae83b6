"""Factor transfer: Kim, Park & Kwak 2018, https://arxiv.org/abs/1802.04977."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.methods.base import Stage
from kdcore.methods.common.adapters import convolutions
from kdcore.methods.common.feature_map_method import FeatureMapMethod, FeatureMaps
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize
from kdcore.methods.common.resize import same_size
from kdcore.schema.methods.factor_transfer import FactorTransfer

FACTOR, PARAPHRASER = "factor_transfer", "factor_transfer_paraphraser"


@full_precision
def factor(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Mean of |F_s/‖F_s‖ - F_t/‖F_t‖|, each sample's whole factor at unit length.

    Factors are (B, C, H, W) with equal channels; where they differ in size, the larger is
    average-pooled. 0 when both are equal. Raises ``ValueError`` where the channels differ.
    """
    if student_factor.shape[1] != teacher_factor.shape[1]:
        raise ValueError(
            f"factors must have equal channels: the student's has {student_factor.shape[1]}, the "
            f"teacher's {teacher_factor.shape[1]}; add a translator"
        )
    s, t = same_size(student_factor, teacher_factor)
    return (l2_normalize(s.flatten(1), dim=1) - l2_normalize(t.flatten(1), dim=1)).abs().mean()


class Paraphraser(nn.Module):
    """Autoencoder of a map (B, channels, H, W) through ``factors`` channels."""

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = convolutions(channels, channels, factors, factors)
        # The last layer is linear, because the teacher's map may have negative values.
        self.decoder = nn.Sequential(
            convolutions(factors, factors, channels), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x`` (B, channels, H, W) from its factors."""
        rebuilt: Tensor = self.decoder(self.encoder(x))
        return rebuilt

    @torch.no_grad()
    def factors(self, x: Tensor) -> Tensor:
        """The factors (B, factors, H, W) of ``x``.

        They use running statistics, so that they do not depend on the other images of the batch.
        """
        training = self.encoder.training
        factors: Tensor = self.encoder.eval()(x)
        self.encoder.train(training)
        return factors


class FactorTransferMethod(FeatureMapMethod):
    """Terms ``factor_transfer_paraphraser``, alone in stage one, and then ``factor_transfer``."""

    paraphraser: Paraphraser
    translator: nn.Module

    def __init__(self, params: FactorTransfer) -> None:
        super().__init__(params)
        self.params = params

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """An autoencoder of the teacher's last map, and a translator of the student's."""
        channels, student_channels = teacher[-1].shape[1], student[-1].shape[1]
        factors = max(1, round(channels * self.params.compression))
        self.paraphraser = Paraphraser(channels, factors)
        self.translator = convolutions(student_channels, student_channels, factors, factors)

    def stages(self) -> tuple[Stage, ...]:
        """First the autoencoder alone; in the second stage it is fixed."""
        first = self.params.stage_one
        return (
            Stage(first, only_terms=frozenset({PARAPHRASER})),
            Stage(1.0 - first, excluded_terms=frozenset({PARAPHRASER})),
        )

    def enter_stage(self, stage: Stage) -> None:
        """Fix the running statistics of the autoencoder in the second stage."""
        self.paraphraser.train(PARAPHRASER not in stage.excluded_terms)

    def weight_of(self, term: str, epoch: int) -> float:
        """The term of the autoencoder trains no other module, so its factor is 1."""
        return 1.0 if term == PARAPHRASER else self.weight

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """Both terms of the last maps."""
        s, t = student[-1], teacher[-1]
        return {
            PARAPHRASER: functional.mse_loss(self.paraphraser(t), t),
            FACTOR: factor(self.translator(s), self.paraphraser.factors(t)),
        }
