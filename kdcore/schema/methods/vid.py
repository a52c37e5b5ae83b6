"""Parameters of the method ``vid``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class VID(MethodParams):
    """Variational information distillation: the student's maps predict the teacher's.

    Choose it when parts of the teacher's maps are noise to the student: each channel learns how
    precisely it can be predicted, and counts accordingly.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1904.05835"
    when_to_use = "When parts of the teacher's maps are noise to the student."
    formula = "sum over maps of mean ½ [(m(f_s) - f_t)² / var + log var], var learned per channel"
    one_teacher = True
    min_maps = 1

    type: Literal["vid"]
    initial_variance: Annotated[float, Field(gt=1e-4, le=1e6)] = 5.0
    weight: Weight = 1.0
