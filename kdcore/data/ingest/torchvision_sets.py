"""torchvision's classification sets, from a local folder or by its own download.

What counts as training, validation and test is as their publishers say; where they say nothing of a
split it is drawn like any other.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from kdcore.data import decode
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.dataset_sources import TORCHVISION_DATASET_INFO, TORCHVISION_PREFIX

_MIXED_SIZE_HEADER = decode.ImageHeader(width=224, height=224, gray=False)
"""Of sets with images of mixed sizes: they are not opened one by one to learn their median."""


class TorchvisionDataset(NamedTuple):
    """How one set is asked for."""

    splits: dict[SubsetName, dict[str, Any]]
    """Arguments of its constructor."""
    labels: str
    """The attribute with the class of each image, or with pairs that end in it."""
    mixed_sizes: bool = False


_TRAIN: dict[SubsetName, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: dict[SubsetName, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: dict[SubsetName, dict[str, Any]] = {**_TWO, "val": {"split": "val"}}

TORCHVISION_DATASETS: dict[str, TorchvisionDataset] = {
    "CIFAR10": TorchvisionDataset(_TRAIN, "targets"),
    "CIFAR100": TorchvisionDataset(_TRAIN, "targets"),
    "Country211": TorchvisionDataset(
        {**_TWO, "val": {"split": "valid"}}, "targets", mixed_sizes=True
    ),
    "DTD": TorchvisionDataset(_THREE, "_labels", mixed_sizes=True),
    "EuroSAT": TorchvisionDataset({"train": {}}, "targets"),
    "FGVCAircraft": TorchvisionDataset(_THREE, "_labels", mixed_sizes=True),
    "FashionMNIST": TorchvisionDataset(_TRAIN, "targets"),
    "Flowers102": TorchvisionDataset(_THREE, "_labels", mixed_sizes=True),
    "Food101": TorchvisionDataset(_TWO, "_labels", mixed_sizes=True),
    "GTSRB": TorchvisionDataset(_TWO, "_samples", mixed_sizes=True),
    "KMNIST": TorchvisionDataset(_TRAIN, "targets"),
    "MNIST": TorchvisionDataset(_TRAIN, "targets"),
    "OxfordIIITPet": TorchvisionDataset(
        {"train": {"split": "trainval"}, "test": {"split": "test"}}, "_labels", mixed_sizes=True
    ),
    "STL10": TorchvisionDataset({**_TWO, "unlabeled": {"split": "unlabeled"}}, "labels"),
    "SVHN": TorchvisionDataset(_TWO, "labels"),
    "USPS": TorchvisionDataset(_TRAIN, "targets"),
}


class TorchvisionReader:
    """One of torchvision's sets, whose files torchvision reads."""

    def __init__(self, name: str, context: IngestContext) -> None:
        self._name = name
        self._context = context
        self.problems: list[ErrorDetail] = []
        self._datasets = {
            part: self._build_dataset(options)
            for part, options in TORCHVISION_DATASETS[name].splits.items()
        }
        self.classes: tuple[str, ...] | None = _class_names(self._datasets["train"], self._labels)
        image_license = TORCHVISION_DATASET_INFO[name].license
        context.events.log(
            "info", f"{TORCHVISION_PREFIX}{name}; license of its images: {image_license}"
        )

    def scan(self) -> list[ScannedImage]:
        """The images of every split in torchvision's own order."""
        self._context.check_count(sum(len(images) for images in self._datasets.values()))
        names = self.classes or ()
        scanned = []
        for part, images in self._datasets.items():
            shape = (
                _MIXED_SIZE_HEADER
                if TORCHVISION_DATASETS[self._name].mixed_sizes
                else _image_header(images[0][0])
            )
            for row, label in enumerate(self._labels(images)):
                text = "" if part == "unlabeled" else names[label]
                scanned.append(
                    ScannedImage(LabeledImage((part, f"{row:08d}"), part, text, (part, row)), shape)
                )
        return scanned

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of ``images``."""
        for position, image in enumerate(images):
            self._context.report_progress(position, len(images))
            part, row = image.location
            try:
                pil_image = self._datasets[part][row][0]
            except (OSError, ValueError, SyntaxError) as error:
                self.problems.append(error_detail(image.name, f"cannot be decoded: {error}"))
                yield position, None
                continue
            yield (
                position,
                decode.fit_image(pil_image, gray=image_format.gray, size=image_format.size),
            )

    def _labels(self, images: Any) -> list[int]:
        values = getattr(images, TORCHVISION_DATASETS[self._name].labels)
        return [int(value[1] if isinstance(value, tuple) else value) for value in values]

    def _build_dataset(self, options: dict[str, Any]) -> Any:
        # torchvision brings torch, and only these sets need it.
        import torchvision.datasets

        make = getattr(torchvision.datasets, self._name)
        root = Path(self._context.request.root or self._context.workdir / "torchvision")
        try:
            return make(root=str(root), **options)
        except (RuntimeError, OSError):
            # torchvision says in this way that the files are not all there.
            return self._download(make, root, options)

    def _download(self, make: Any, root: Path, options: dict[str, Any]) -> Any:
        try:
            root.mkdir(parents=True, exist_ok=True)
            return make(root=str(root), download=True, **options)
        except (RuntimeError, OSError, ValueError) as error:
            where = (
                "is not in the operator's folder" if self._context.request.root else "is not here"
            )
            raise UserError(
                "dataset_invalid",
                f"{TORCHVISION_PREFIX}{self._name} {where}, and its download failed: {error}",
                hint="try again later, ask the operator to put its files where torchvision looks "
                "for them below STILLHOUSE_TORCHVISION_ROOT, or upload the images yourself",
            ) from error


def _class_names(images: Any, labels: Any) -> tuple[str, ...]:
    names = getattr(images, "classes", None)
    if names is None:
        return tuple(str(number) for number in range(max(labels(images)) + 1))
    return tuple(str(name) for name in names)


def _image_header(image: Image.Image) -> decode.ImageHeader:
    return decode.ImageHeader(*image.size, gray=image.mode == "L")
