"""Methods of relations between samples: their parameters, with bounds and defaults."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.base import FrozenModel
from kdcore.schema.methods.types import PartWeight, Weight, require_positive_part


class RKD(FrozenModel):
    """Relational KD: distances of pairs and angles of triplets of samples are the teacher's.

    Choose it for embeddings, in which only the arrangement counts, and where the two networks'
    features have different sizes. Memory grows with the batch cubed.
    """

    type: Literal["rkd"]
    distance_weight: PartWeight = 25.0
    angle_weight: PartWeight = 50.0
    weight: Weight = 1.0
    """Of both together."""

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        return require_positive_part(self, "distance_weight", "angle_weight")


class Similarity(FrozenModel):
    """Similarity-preserving KD: samples alike to the teacher are alike to the student.

    Choose it when maps of the two networks have nothing in common but the samples: only
    similarities within the batch are compared, of the last maps, and any two shapes fit.
    """

    type: Literal["similarity"]
    weight: Weight = 3000.0


class PKT(FrozenModel):
    """Probabilistic knowledge transfer: each sample's neighbors are as probable as the teacher's.

    Choose it for embeddings and retrieval: cosine similarities, made a distribution over the batch,
    are compared; it has nothing to train.
    """

    type: Literal["pkt"]
    weight: Weight = 30000.0


class Correlation(FrozenModel):
    """Correlation congruence: what relates the samples of a batch is as in the teacher.

    Choose `gaussian`, the paper's, for relations alone; `product`, the known code's, pulls the
    features themselves together and is stronger where both have like sizes.
    """

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


class CRD(FrozenModel):
    """Contrastive representation distillation: tell one's own image from those of other classes.

    Choose it when accuracy counts more than training time: among the strongest of the methods of
    features. Keeps a memory of every training image for both networks, and needs all labels.
    """

    type: Literal["crd"]
    negatives: Annotated[int, Field(ge=1, le=1_000_000)] = 16384
    """Per image, drawn with replacement from other classes; no more than those classes have."""
    embedding_dim: Annotated[int, Field(ge=1, le=65536)] = 128
    temperature: Annotated[float, Field(ge=0.02, le=1000)] = 0.07
    """exp(1 / T) must be a number of float32: it is not for a T below 0.0113."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the old value when the memory of an image is renewed."""
    weight: Weight = 0.8
