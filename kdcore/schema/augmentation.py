"""Augmentations: how the views of an image are drawn."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel

Probability = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, Field(gt=0, le=100)]
Ratio = Annotated[float, Field(ge=0.1, le=10)]
Area = Annotated[float, Field(gt=0, le=1)]


class NoAugmentation(FrozenModel):
    """Every view is the unchanged image."""

    type: Literal["none"]


class CropFlip(FrozenModel):
    """Pad with zeros, crop at random to the original size, and mirror at random."""

    type: Literal["crop_flip"]
    padding: Annotated[int, Field(ge=0, le=64)] | None = None
    """Pixels on each side; null means an eighth of the input size, at least 1."""
    flip: bool | None = None
    """Mirror half of the views; null means yes, except for data sets of digits and letters."""


class RandomResizedCrop(FrozenModel):
    """Crop a random area and aspect ratio, resize it to the original size, and mirror at random.

    The usual choice for images of 64 pixels or more (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842).
    """

    type: Literal["random_resized_crop"]
    scale: tuple[Area, Area] = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)
    """Smallest and largest width by height."""
    flip: bool | None = None
    """Mirror half of the views; null means yes, except for data sets of digits and letters."""

    @model_validator(mode="after")
    def _check_ascending(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise PydanticCustomError(
                    "not_ascending",
                    "{name} must be the smallest value, then the largest",
                    {"name": name},
                )
        return self


class RandAugment(FrozenModel):
    """A few random changes of color and shape with one magnitude.

    Cubuk et al. 2020, https://arxiv.org/abs/1909.13719.
    """

    type: Literal["randaugment"]
    num_ops: Annotated[int, Field(ge=1, le=8)] = 2
    """Number of changes of one view."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the changes; 30 rotates by 30 degrees and posterizes to 4 bits."""


class Cutout(FrozenModel):
    """Cover a square at a random position with the mean color of the view.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552.
    """

    type: Literal["cutout"]
    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side in pixels; null means a quarter of the input size. The center is inside the image."""
    probability: Probability = 1.0
    """Share of the views with a square."""


class Mixup(FrozenModel):
    """Blend each view with another view of its batch, and their labels with the same shares.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
    """

    type: Literal["mixup"]
    alpha: Alpha = 0.2
    """Shares come from Beta(alpha, alpha): values near 0 hardly mix, 1 is uniform."""
    probability: Probability = 1.0
    """Share of the views that are blended."""


class Cutmix(FrozenModel):
    """Replace a rectangle of each view by another view of its batch, and mix labels by its area.

    Yun et al. 2019, https://arxiv.org/abs/1905.04899.
    """

    type: Literal["cutmix"]
    alpha: Alpha = 1.0
    """Shares come from Beta(alpha, alpha)."""
    probability: Probability = 1.0
    """Share of the views with a rectangle."""


AnyAugmentation = (
    NoAugmentation | CropFlip | RandomResizedCrop | RandAugment | Cutout | Mixup | Cutmix
)
Augmentation = Annotated[AnyAugmentation, Field(discriminator="type")]
CROPS = ("crop_flip", "random_resized_crop")
MIXING = ("mixup", "cutmix")
AUGMENTATIONS: dict[str, type[FrozenModel]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(AnyAugmentation)
}


def _check_combination(augmentations: tuple[AnyAugmentation, ...]) -> tuple[AnyAugmentation, ...]:
    names = [augmentation.type for augmentation in augmentations]
    problem = _contradiction(names)
    if problem is not None:
        raise PydanticCustomError("augmentations", problem)
    return augmentations


def _contradiction(names: Sequence[str]) -> str | None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    mixing = [name for name in names if name in MIXING]
    if twice:
        return f"the list names {twice[0]} twice: name each augmentation once"
    if "none" in names and len(names) > 1:
        return "none means no augmentation: leave it out of the list"
    if all(name in names for name in CROPS):
        return f"{' and '.join(CROPS)} both crop: choose one of them"
    if len(mixing) > 1:
        return f"{' and '.join(MIXING)} both mix two views: choose one of them"
    if mixing and names[-1] != mixing[0]:
        return f"{mixing[0]} mixes finished views: it must be the last of the list"
    return None


# No request has fields of these names, so that a step in pydantic's error location that names the
# variant differs from a step that names a field.
_ONE, _LIST = "(an augmentation)", "(a list)"


def _shape(value: object) -> str:
    """How the client wrote ``augmentation``; errors then come from that variant alone."""
    return _LIST if isinstance(value, list | tuple) else _ONE


AugmentationField = Annotated[
    Annotated[Augmentation, Tag(_ONE)]
    | Annotated[
        tuple[Augmentation, ...],
        Field(min_length=1, max_length=len(AUGMENTATIONS)),
        AfterValidator(_check_combination),
        Tag(_LIST),
    ],
    Discriminator(_shape),
]
"""One augmentation, or a list in the order of application: each type at most once, at most one
crop, and at most one of mixup and cutmix, which must be last."""


def as_augmentations(
    field: AnyAugmentation | tuple[AnyAugmentation, ...],
) -> tuple[AnyAugmentation, ...]:
    """The field ``augmentation`` as a tuple."""
    return field if isinstance(field, tuple) else (field,)
