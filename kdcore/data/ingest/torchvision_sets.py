"""torchvision's classification sets, from a local folder or by its own download.

What counts as training, validation and test is as their publishers say; where they say nothing of a
split it is drawn like any other.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from kdcore.data import decode
from kdcore.data.ingest.base import Context, Found, Frame, Labelled, Pixels
from kdcore.data.types import PartName
from kdcore.protocol.events import Item
from kdcore.runtime.errors import UserFault, item
from kdcore.schema.dataset_sources import PREFIX, VISION

_LARGE = decode.Shape(width=224, height=224, grey=False)
"""Of sets with images of mixed sizes: they are not opened one by one to learn their median."""


class Recipe(NamedTuple):
    """How one set is asked for."""

    splits: dict[PartName, dict[str, Any]]
    """Arguments of its constructor."""
    labels: str
    """The attribute with the class of each image, or with pairs that end in it."""
    mixed_sizes: bool = False


_TRAIN: dict[PartName, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: dict[PartName, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: dict[PartName, dict[str, Any]] = {**_TWO, "val": {"split": "val"}}

RECIPES: dict[str, Recipe] = {
    "CIFAR10": Recipe(_TRAIN, "targets"),
    "CIFAR100": Recipe(_TRAIN, "targets"),
    "Country211": Recipe({**_TWO, "val": {"split": "valid"}}, "targets", mixed_sizes=True),
    "DTD": Recipe(_THREE, "_labels", mixed_sizes=True),
    "EuroSAT": Recipe({"train": {}}, "targets"),
    "FGVCAircraft": Recipe(_THREE, "_labels", mixed_sizes=True),
    "FashionMNIST": Recipe(_TRAIN, "targets"),
    "Flowers102": Recipe(_THREE, "_labels", mixed_sizes=True),
    "Food101": Recipe(_TWO, "_labels", mixed_sizes=True),
    "GTSRB": Recipe(_TWO, "_samples", mixed_sizes=True),
    "KMNIST": Recipe(_TRAIN, "targets"),
    "MNIST": Recipe(_TRAIN, "targets"),
    "OxfordIIITPet": Recipe(
        {"train": {"split": "trainval"}, "test": {"split": "test"}}, "_labels", mixed_sizes=True
    ),
    "STL10": Recipe({**_TWO, "unlabelled": {"split": "unlabeled"}}, "labels"),
    "SVHN": Recipe(_TWO, "labels"),
    "USPS": Recipe(_TRAIN, "targets"),
}


class VisionSource:
    """One of torchvision's sets, whose files torchvision reads."""

    def __init__(self, name: str, context: Context) -> None:
        self._name = name
        self._context = context
        self.problems: list[Item] = []
        self._sets = {part: self._built(how) for part, how in RECIPES[name].splits.items()}
        self.classes: tuple[str, ...] | None = _class_names(self._sets["train"], self._labels)
        licence = VISION[name].licence
        context.events.log("info", f"{PREFIX}{name}; licence of its images: {licence}")

    def survey(self) -> list[Found]:
        """The images of every split in torchvision's own order."""
        self._context.check_count(sum(len(images) for images in self._sets.values()))
        names = self.classes or ()
        found = []
        for part, images in self._sets.items():
            shape = _LARGE if RECIPES[self._name].mixed_sizes else _shape(images[0][0])
            for row, label in enumerate(self._labels(images)):
                text = "" if part == "unlabelled" else names[label]
                found.append(Found(Labelled((part, f"{row:08d}"), part, text, (part, row)), shape))
        return found

    def pixels(
        self, images: Sequence[Labelled], frame: Frame
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of ``images``."""
        for position, image in enumerate(images):
            self._context.tick(position, len(images))
            part, row = image.place
            try:
                picture = self._sets[part][row][0]
            except (OSError, ValueError, SyntaxError) as error:
                self.problems.append(item(image.name, f"cannot be decoded: {error}"))
                yield position, None
                continue
            yield position, decode.fitted(picture, grey=frame.grey, size=frame.size)

    def _labels(self, images: Any) -> list[int]:
        values = getattr(images, RECIPES[self._name].labels)
        return [int(value[1] if isinstance(value, tuple) else value) for value in values]

    def _built(self, how: dict[str, Any]) -> Any:
        # torchvision brings torch, and only these sets need it.
        import torchvision.datasets

        make = getattr(torchvision.datasets, self._name)
        root = Path(self._context.request.root or self._context.workdir / "torchvision")
        try:
            return make(root=str(root), **how)
        except (RuntimeError, OSError):
            # torchvision says in this way that the files are not all there.
            return self._downloaded(make, root, how)

    def _downloaded(self, make: Any, root: Path, how: dict[str, Any]) -> Any:
        try:
            root.mkdir(parents=True, exist_ok=True)
            return make(root=str(root), download=True, **how)
        except (RuntimeError, OSError, ValueError) as error:
            where = (
                "is not in the operator's folder" if self._context.request.root else "is not here"
            )
            raise UserFault(
                "dataset_invalid",
                f"{PREFIX}{self._name} {where}, and its download failed: {error}",
                hint="try again later, ask the operator to put its files where torchvision looks "
                "for them below STILLHOUSE_TORCHVISION_ROOT, or upload the images yourself",
            ) from error


def _class_names(images: Any, labels: Any) -> tuple[str, ...]:
    names = getattr(images, "classes", None)
    if names is None:
        return tuple(str(number) for number in range(max(labels(images)) + 1))
    return tuple(str(name) for name in names)


def _shape(picture: Image.Image) -> decode.Shape:
    return decode.Shape(*picture.size, grey=picture.mode == "L")
