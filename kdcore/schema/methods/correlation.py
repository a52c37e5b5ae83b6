"""Parameters of the method ``correlation``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class Correlation(MethodParams):
    """Correlation congruence: the student matches the teacher's relations between samples.

    The form `gaussian`, as in the paper, compares relations only. The form `product`, as in the
    widely used code, also compares features, and is stronger for features of similar size.
    """

    group = "relations"
    needs = ("pooled",)
    paper = "https://arxiv.org/abs/1904.01802"
    when_to_use = "To match relations between samples, and with `product` also the features."
    formula = "product: mean_i Σ_c |Δ_i|·|Δ_(i+1)|, Δ = e_s - e_t; gaussian: mean (K_s - K_t)²"
    min_batch = 2
    one_teacher = True

    type: Literal["correlation"]
    form: Literal["product", "gaussian"] = "product"
    """`product`: products of the errors of consecutive samples; `gaussian`: kernel matrices of the
    batch."""
    gamma: Annotated[float, Field(gt=0, le=1000)] = 0.4
    """Gamma of the Gaussian kernel exp(-gamma · distance²)."""
    embedding_dim: Annotated[int, Field(ge=1, le=65536)] = 128
    """Largest number of features for `product`; `gaussian` compares all features."""
    weight: Weight = Field(
        0.02,
        description="A number, `auto` or `published`, which is 0.02, and 100 for the form "
        "`gaussian`.",
    )

    @property
    def published_weight(self) -> float:
        """100 for the form `gaussian`."""
        return 100.0 if self.form == "gaussian" else super().published_weight
