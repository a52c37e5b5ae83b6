"""Sources of data sets without an upload: the built-in digits and torchvision's data sets."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel, join_with_or

OnBadImage = Literal["refuse", "skip"]
"""What becomes of an upload with images that cannot be decoded."""
OnDuplicates = Literal["warn", "drop"]
"""What becomes of images that are in a data set more than once."""
DIGITS = "builtin:digits"
TORCHVISION_PREFIX = "torchvision:"


class TorchvisionDatasetInfo(FrozenModel):
    """Facts of a torchvision data set that are known without loading it."""

    license: str
    """License as the publishers state it; the user is responsible for complying with it."""
    allows_flip: bool = True
    """Whether a mirrored image keeps its class; false for digits and letters."""


_UNSTATED = "none stated by its publishers"

TORCHVISION_DATASET_INFO: dict[str, TorchvisionDatasetInfo] = {
    "CIFAR10": TorchvisionDatasetInfo(license=_UNSTATED),
    "CIFAR100": TorchvisionDatasetInfo(license=_UNSTATED),
    "Country211": TorchvisionDatasetInfo(license="Creative Commons, different for each image"),
    "DTD": TorchvisionDatasetInfo(license="for research"),
    "EuroSAT": TorchvisionDatasetInfo(license="MIT"),
    "FGVCAircraft": TorchvisionDatasetInfo(license="for non-commercial research"),
    "FashionMNIST": TorchvisionDatasetInfo(license="MIT"),
    "Flowers102": TorchvisionDatasetInfo(license=_UNSTATED),
    "Food101": TorchvisionDatasetInfo(license=_UNSTATED),
    "GTSRB": TorchvisionDatasetInfo(license=_UNSTATED, allows_flip=False),
    "KMNIST": TorchvisionDatasetInfo(license="CC BY-SA 4.0", allows_flip=False),
    "MNIST": TorchvisionDatasetInfo(license="CC BY-SA 3.0", allows_flip=False),
    "OxfordIIITPet": TorchvisionDatasetInfo(license="CC BY-SA 4.0"),
    "STL10": TorchvisionDatasetInfo(license=_UNSTATED),
    "SVHN": TorchvisionDatasetInfo(license="for non-commercial use", allows_flip=False),
    "USPS": TorchvisionDatasetInfo(license=_UNSTATED, allows_flip=False),
}
"""By the names of torchvision's classes, which are case-sensitive."""

SOURCES = (DIGITS, *(TORCHVISION_PREFIX + name for name in TORCHVISION_DATASET_INFO))


def allows_flip(source: str) -> bool:
    """Whether augmentation may mirror images of ``source``; true for uploads."""
    known = TORCHVISION_DATASET_INFO.get(source.removeprefix(TORCHVISION_PREFIX))
    return source != DIGITS and (known is None or known.allows_flip)


def _check_known(source: str) -> str:
    if source in SOURCES:
        return source
    by_folded = {name.casefold(): name for name in SOURCES}
    by_folded |= {name.removeprefix(TORCHVISION_PREFIX).casefold(): name for name in SOURCES}
    near = difflib.get_close_matches(source[:100].casefold(), by_folded, n=5, cutoff=0.5)
    names = list(dict.fromkeys(by_folded[match] for match in near))[:3] or list(SOURCES)
    raise PydanticCustomError(
        "unknown_source",
        "there is no such source; did you mean {near}?",
        {"near": join_with_or(names)},
    )


KnownSource = Annotated[
    str, AfterValidator(_check_known), WithJsonSchema({"type": "string", "enum": list(SOURCES)})
]
"""One of :data:`SOURCES`."""
