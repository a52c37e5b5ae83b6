"""Parameters of the method ``attention``."""

from typing import Any, Literal

from pydantic import model_validator

from kdcore.schema.methods.base import MethodParams, Weight


class Attention(MethodParams):
    """Attention transfer: the student looks at the same places as the teacher.

    Choose it for networks of like shape, whatever their channels: it has nothing to train and is
    cheap. The map of attention is the mean over channels of the squared features, of unit length.
    """

    group = "features"
    needs = ("maps",)
    paper = "https://arxiv.org/abs/1612.03928"
    when_to_use = "For networks of like shape, whatever their channels; cheap, nothing to train."
    formula = "sum over maps of mean (q_s - q_t)², q = mean_c f² at unit length"
    one_teacher = True
    min_maps = 1

    type: Literal["attention"]
    form: Literal["squared", "paper"] = "squared"
    """`squared`: mean squared difference, as the authors' code has it; `paper`: the unsquared
    distance of the paper."""
    weight: Weight = 1000.0
    """Where it is not given and form is `paper`: 2, which is about as strong."""

    @model_validator(mode="before")
    @classmethod
    def _weight_of_form(cls, fields: Any) -> Any:
        chosen = isinstance(fields, dict) and fields.get("form") == "paper"
        return {"weight": 2.0, **fields} if chosen else fields
