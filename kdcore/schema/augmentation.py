"""How every view of an image is made: one augmentation, or several in their order."""

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
    """Every view is the image as it is."""

    type: Literal["none"]


class CropFlip(FrozenModel):
    """Pad with zeros, crop at random to the old size, mirror left and right at random."""

    type: Literal["crop_flip"]
    padding: Annotated[int, Field(ge=0, le=64)] | None = None
    """Pixels on each side; null means an eighth of the input size, at least 1."""
    flip: bool | None = None
    """Mirror half of the views; null means yes, except for digits, which have a handedness."""


class RandomResizedCrop(FrozenModel):
    """Cut out a part of random area and shape, stretch it to the old size, mirror at random.

    The usual choice from 64 pixels on (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842).
    """

    type: Literal["random_resized_crop"]
    scale: tuple[Area, Area] = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)
    """Smallest and largest width by height."""
    flip: bool | None = None
    """Mirror half of the views; null means yes, except for digits, which have a handedness."""

    @model_validator(mode="after")
    def _check_ascending(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise PydanticCustomError(
                    "not_ascending",
                    "{name} is the smallest value, then the largest",
                    {"name": name},
                )
        return self


class RandAugment(FrozenModel):
    """A few random changes of color and shape, all of one strength.

    Cubuk et al. 2020, https://arxiv.org/abs/1909.13719.
    """

    type: Literal["randaugment"]
    num_ops: Annotated[int, Field(ge=1, le=8)] = 2
    """Changes of one view, one after the other."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Their strength; 30 turns by 30 degrees and posterizes to 4 bits."""


class Cutout(FrozenModel):
    """Cover a square at a random place with the view's own mean color.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552.
    """

    type: Literal["cutout"]
    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side in pixels; null means a quarter of the input size. Its center is always in the image."""
    probability: Probability = 1.0
    """Share of the views that are covered."""


class Mixup(FrozenModel):
    """Blend each view with another one of its batch, and their labels by the same shares.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
    """

    type: Literal["mixup"]
    alpha: Alpha = 0.2
    """Shares come from Beta(alpha, alpha): near 0 hardly mixed, 1 uniform."""
    probability: Probability = 1.0
    """Share of the views that are blended."""


class Cutmix(FrozenModel):
    """Replace a rectangle of each view by another view of its batch, and labels by its area.

    Yun et al. 2019, https://arxiv.org/abs/1905.04899.
    """

    type: Literal["cutmix"]
    alpha: Alpha = 1.0
    """Shares come from Beta(alpha, alpha)."""
    probability: Probability = 1.0
    """Share of the views that get a rectangle."""


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
        return f"{twice[0]} stands in the list twice; each augmentation may be there once"
    if "none" in names and len(names) > 1:
        return "none means no augmentation at all: leave it out of the list"
    if all(name in names for name in CROPS):
        return f"{' and '.join(CROPS)} both crop; choose one"
    if len(mixing) > 1:
        return f"{' and '.join(MIXING)} both mix two views; choose one"
    if mixing and names[-1] != mixing[0]:
        return f"{mixing[0]} mixes finished views, so it must be the last of the list"
    return None


# No client has a field of such a name: the steps to a fault are told from those to a field.
_ONE, _LIST = "(an augmentation)", "(a list)"


def _shape(value: object) -> str:
    """Which way of writing ``augmentation`` the client chose; errors come from that way alone."""
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
"""One augmentation, or a list that is applied in its order: each type once, one crop at most, one
of mixup and cutmix at most, and that one last."""


def as_augmentations(
    field: AnyAugmentation | tuple[AnyAugmentation, ...],
) -> tuple[AnyAugmentation, ...]:
    """One way to write ``augmentation`` out of the two."""
    return field if isinstance(field, tuple) else (field,)
