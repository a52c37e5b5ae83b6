"""Parameters of the method ``correlation``."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kdcore.schema.methods.base import MethodParams, Weight


class Correlation(MethodParams):
    """Correlation congruence: what relates the samples of a batch is as in the teacher.

    Choose `gaussian`, the paper's, for relations alone; `product`, the known code's, pulls the
    features themselves together and is stronger where both have like sizes.
    """

    group = "relations"
    needs = ("pooled",)
    paper = "https://arxiv.org/abs/1904.01802"
    when_to_use = "To match how samples of a batch relate, and with `product` the features as well."
    formula = "product: mean_i Σ_c |Δ_i|·|Δ_(i+1)|, Δ = e_s - e_t; gaussian: mean (K_s - K_t)²"
    min_batch = 2
    one_teacher = True

    type: Literal["correlation"]
    form: Literal["product", "gaussian"] = "product"
    """`product`: errors of samples that follow each other, multiplied; `gaussian`: kernel matrices
    of the batch, as in the paper."""
    gamma: Annotated[float, Field(gt=0, le=1000)] = 0.4
    """Of the Gaussian kernel exp(-gamma · distance²)."""
    embedding_dim: Annotated[int, Field(ge=1, le=65536)] = 128
    """Features compared by `product`, at most; `gaussian` compares all."""
    weight: Weight = 0.02
    """Where it is not given and form is `gaussian`: 100."""

    @model_validator(mode="before")
    @classmethod
    def _weight_of_form(cls, fields: Any) -> Any:
        chosen = isinstance(fields, dict) and fields.get("form") == "gaussian"
        return {"weight": 100.0, **fields} if chosen else fields
