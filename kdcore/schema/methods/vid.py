"""Parameters of the method ``vid``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class VID(MethodParams):
    """Variational information distillation: the student's maps predict the teacher's.

    Choose it when the student cannot predict some of the teacher's channels: each channel has a
    trained variance, and channels of high variance count less.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1904.05835"
    when_to_use = "When the student cannot predict some of the teacher's channels."
    formula = "sum over maps of mean ½ [(m(f_s) - f_t)² / var + log var], var learned per channel"
    one_teacher = True
    min_maps = 1
    target_share = 0.3
    """At 0.8 its regressors, whose gradient is far larger than the student's, diverged."""

    type: Literal["vid"]
    initial_variance: Annotated[float, Field(gt=1e-4, le=1e6)] = 5.0
    weight: Weight = 1.0
