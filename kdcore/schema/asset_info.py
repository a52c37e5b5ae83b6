"""What the engine reports of what users bring: data sets and models."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.base import FrozenModel, Sha256
from kdcore.schema.catalog import Normalization

ImageSize = Annotated[int, Field(ge=8, le=1024)]
"""Side in pixels: the smallest that networks are made for, the largest that makes sense here."""


class SplitInfo(FrozenModel):
    """One split of a data set."""

    count: int
    per_class: dict[str, int]
    """Empty for the images without labels."""


class DatasetInfo(FrozenModel):
    """What ingestion reports of a data set."""

    classes: tuple[str, ...]
    splits: dict[Literal["train", "val", "test", "unlabeled"], SplitInfo]
    """The last only where there are images without labels."""
    in_channels: int
    image_size: int
    """Side of the square images, in pixels."""
    normalization: Normalization
    """Mean and deviation of the training split, pixels scaled to 0..1."""
    split_seed: int
    digest: Sha256
    """Of the content: equal for equal images, targets, classes and splits."""


class ModelInfo(FrozenModel):
    """What verification reports of a checkpoint."""

    architecture: str
    num_classes: int
    in_channels: int
    num_params: int
    input_size: int | None = None
    """This and all that follows: of published weights alone, null where a user says it."""
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None
    """Null also where the weights do not say."""
    license: str | None = None


class DatasetFacts(FrozenModel):
    """What validation reads of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int
    num_unlabeled: int = 0


class ModelFacts(FrozenModel):
    """What validation reads of a ready model."""

    architecture: str
    num_classes: int
    in_channels: int
