"""DatasetInfo and ModelInfo: what the engine reports about data sets and models."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel, JsonNumber, Sha256
from kdcore.schema.catalog import Normalization

ImageSize = Annotated[int, JsonNumber, Field(ge=8, le=1024)]
"""Side in pixels, from the smallest input of the catalog to the largest that the service takes."""


WeightsChoice = Literal["raw", "ema"]


def _check_pattern(pair: tuple[str, str]) -> tuple[str, str]:
    try:
        pattern = re.compile(pair[0])
        names = {index: f"?P<{name}>" for name, index in pattern.groupindex.items()}
        # The replacement is checked with empty groups of these names: some patterns take years
        # even for an empty text.
        groups = (f"({names.get(index, '')})" for index in range(1, pattern.groups + 1))
        re.compile("".join(groups)).sub(pair[1], "")
    except (re.error, RecursionError, OverflowError, IndexError) as error:
        raise PydanticCustomError(
            "invalid_pattern",
            "must be a regular expression of Python and its replacement: {reason}",
            {"reason": str(error)},
        ) from error
    return pair


KeyPair = Annotated[
    tuple[
        Annotated[str, Field(min_length=1, max_length=500)], Annotated[str, Field(max_length=500)]
    ],
    AfterValidator(_check_pattern),
]
KeyMap = Annotated[tuple[KeyPair, ...], Field(max_length=100)]
"""Pairs of a regular expression and its replacement, for the names of a checkpoint's tensors; an
empty new name leaves a tensor out."""


class SplitInfo(FrozenModel):
    """One split of a data set."""

    count: int
    per_class: dict[str, int]
    """Images of each class; empty for images without labels."""


class DatasetInfo(FrozenModel):
    """What ingestion reports about a data set."""

    classes: tuple[str, ...]
    splits: dict[Literal["train", "val", "test", "unlabeled"], SplitInfo]
    """`unlabeled` only where the data set has images without labels."""
    in_channels: int
    image_size: int
    """Side of the square images, in pixels."""
    normalization: Normalization
    """Mean and standard deviation of the training split, with pixels from 0 to 1."""
    split_seed: int
    digest: Sha256
    """Digest of the content: equal for equal images, targets, classes and splits."""
    sixteen_bit_range: int | None = None
    """Number of values of the images with 16 bits: the smallest power of two above the largest
    value in the data set. Null without such images."""


class SplitSource(FrozenModel):
    """Where the images of a split come from."""

    source: str
    """Folders, shards or arrays of the upload, or the split that it was drawn from."""
    count: int
    """Usable images."""


class IgnoredItems(FrozenModel):
    """Parts of an upload that are not in the data set, and why."""

    reason: str
    count: int
    examples: tuple[str, ...]
    """Names: the first 20, or up to 1,000 of images that were left out because they are bad."""


class IngestSummary(FrozenModel):
    """What ingestion read of an upload, also of one that it refused."""

    splits: dict[Literal["train", "val", "test", "unlabeled"], SplitSource] = Field(
        default_factory=dict
    )
    ignored: tuple[IgnoredItems, ...] = ()
    warnings: tuple[str, ...] = ()


class ModelInfo(FrozenModel):
    """What verification reports about a checkpoint."""

    architecture: str
    num_classes: int
    in_channels: int
    num_params: int | None
    """Null for ONNX, which does not say which tensors are parameters."""
    input_size: int | None = None
    """This field and the next one are of pretrained weights, or in the file of a network."""
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None
    """In the order of the logits; null where the weights do not name their classes."""
    reported_top1: float | None = None
    """Accuracy in percent that the checkpoint states; null where it states none."""
    license: str | None = None
    outputs: dict[str, tuple[int, ...]] | None = None
    """Shapes for one image of the outputs beside the logits, by name, of a network from a file."""
    warnings: tuple[str, ...] = ()
    """What the user should know about how a checkpoint was read."""


class DatasetFacts(FrozenModel):
    """What validation reads of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int
    num_unlabeled: int = 0
    classes: tuple[str, ...] = ()
    """Names in order; empty if unknown."""


class ModelFacts(FrozenModel):
    """What validation reads of a ready model, or of the student of an earlier job."""

    architecture: str
    num_classes: int
    in_channels: int
    class_names: tuple[str, ...] | None = None
    """In the order of the logits; null if unknown."""
    assumed_input_size: int | None = None
    """Default of the architecture, in pixels; null where the model declares its size."""
    outputs: dict[str, tuple[int, ...]] | None = None
    """Shapes for one image of a file's outputs beside the logits; null for other models."""
