"""Read torchvision's classification data sets, from a local folder or by its download.

Splits are the published ones; a split that was not published is drawn as for an upload.
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
"""Assumed for images of mixed sizes, so that their headers need not be read one by one."""


class TorchvisionDataset(NamedTuple):
    """How torchvision loads one data set."""

    splits: dict[SubsetName, dict[str, Any]]
    """Arguments of its constructor for each split."""
    labels: str
    """The attribute with the class index of each image, or with pairs that end in it."""
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


def open_reader(context: IngestContext) -> "TorchvisionReader | None":
    """Return a reader if the request names one of torchvision's data sets."""
    source = context.request.source
    if not source.startswith(TORCHVISION_PREFIX):
        return None
    return TorchvisionReader(source.removeprefix(TORCHVISION_PREFIX), context)


class TorchvisionReader:
    """Reads one of torchvision's data sets."""

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
        """List the images of every split in torchvision's order."""
        self._context.check_count(sum(len(images) for images in self._datasets.values()))
        names = self.classes or ()
        scanned = []
        for part, images in self._datasets.items():
            self._context.summary.sources[part] = f"{part} of {TORCHVISION_PREFIX}{self._name}"
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
        """Decode in the order of ``images``."""
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
        # torchvision imports torch, and only these data sets need it.
        import torchvision.datasets

        make = getattr(torchvision.datasets, self._name)
        root = Path(self._context.request.root or self._context.workdir / "torchvision")
        try:
            return make(root=str(root), **options)
        except (RuntimeError, OSError):
            # torchvision raises these for missing files.
            return self._download(make, root, options)

    def _download(self, make: Any, root: Path, options: dict[str, Any]) -> Any:
        try:
            root.mkdir(parents=True, exist_ok=True)
            return make(root=str(root), download=True, **options)
        except (RuntimeError, OSError, ValueError) as error:
            missing = (
                "is not in the operator's folder"
                if self._context.request.root
                else "is not available"
            )
            raise UserError(
                "dataset_invalid",
                f"{TORCHVISION_PREFIX}{self._name} {missing}, and its download failed: {error}",
                hint="try again later, ask the operator to store the files below "
                "STILLHOUSE_TORCHVISION_ROOT as torchvision does, or upload the images",
            ) from error


def _class_names(images: Any, labels: Any) -> tuple[str, ...]:
    names = getattr(images, "classes", None)
    if names is None:
        return tuple(str(number) for number in range(max(labels(images)) + 1))
    return tuple(str(name) for name in names)


def _image_header(image: Image.Image) -> decode.ImageHeader:
    return decode.ImageHeader(*image.size, gray=image.mode == "L")
