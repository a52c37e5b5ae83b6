"""Parameters of the method ``crd``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams, Weight


class CRD(MethodParams):
    """Contrastive representation distillation: match an image against images of other classes.

    Choose it when accuracy counts more than training time: it is among the strongest methods of
    features. It stores an embedding of every training image for both networks, and needs all
    labels.
    """

    group = "relations"
    needs = ("pooled", "target", "index")
    paper = "https://arxiv.org/abs/1910.10699"
    when_to_use = (
        "When accuracy counts more than training time and memory, and all labels are known."
    )
    formula = (
        "-mean_b [log P⁺/(P⁺ + K/N) + Σ_k log (K/N)/(P_k + K/N)], both ways, P = exp(e·m / T) / Z"
    )
    one_teacher = True

    type: Literal["crd"]
    negatives: Annotated[int, Field(ge=1, le=1_000_000)] = 16384
    """Negatives of each image, drawn with replacement from images of other classes, and at most the
    number of these images."""
    embedding_dim: Annotated[int, Field(ge=1, le=65536)] = 128
    temperature: Annotated[float, Field(ge=0.02, le=1000)] = 0.07
    """exp(1 / T) must be finite in float32, so T must be above 0.0113."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the old embedding when the embedding of an image is updated."""
    weight: Weight = 0.8
