"""Data sets that need no upload: the built-in one and torchvision's classification sets."""

import difflib
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.base import Spec, either

DIGITS = "builtin:digits"
PREFIX = "torchvision:"


class VisionSet(Spec):
    """What is known of one of torchvision's sets without loading it."""

    licence: str
    """As its publishers state it; who trains on it answers for keeping to it."""
    mirrors: bool = True
    """Whether a mirrored image is still one of its class: not so for digits and letters."""


_UNSTATED = "none stated by its publishers"

VISION: dict[str, VisionSet] = {
    "CIFAR10": VisionSet(licence=_UNSTATED),
    "CIFAR100": VisionSet(licence=_UNSTATED),
    "Country211": VisionSet(licence="Creative Commons, different for each image"),
    "DTD": VisionSet(licence="for research"),
    "EuroSAT": VisionSet(licence="MIT"),
    "FGVCAircraft": VisionSet(licence="for non-commercial research"),
    "FashionMNIST": VisionSet(licence="MIT"),
    "Flowers102": VisionSet(licence=_UNSTATED),
    "Food101": VisionSet(licence=_UNSTATED),
    "GTSRB": VisionSet(licence=_UNSTATED, mirrors=False),
    "KMNIST": VisionSet(licence="CC BY-SA 4.0", mirrors=False),
    "MNIST": VisionSet(licence="CC BY-SA 3.0", mirrors=False),
    "OxfordIIITPet": VisionSet(licence="CC BY-SA 4.0"),
    "STL10": VisionSet(licence=_UNSTATED),
    "SVHN": VisionSet(licence="for non-commercial use", mirrors=False),
    "USPS": VisionSet(licence=_UNSTATED, mirrors=False),
}
"""By torchvision's own names, which tell capitals apart."""

SOURCES = (DIGITS, *(PREFIX + name for name in VISION))


def mirrors(source: str) -> bool:
    """Whether the images of a data set from ``source`` may be mirrored; uploads may."""
    known = VISION.get(source.removeprefix(PREFIX))
    return source != DIGITS and (known is None or known.mirrors)


def _known(source: str) -> str:
    if source in SOURCES:
        return source
    by_folded = {name.casefold(): name for name in SOURCES}
    by_folded |= {name.removeprefix(PREFIX).casefold(): name for name in SOURCES}
    near = difflib.get_close_matches(source[:100].casefold(), by_folded, n=5, cutoff=0.5)
    names = list(dict.fromkeys(by_folded[match] for match in near))[:3] or list(SOURCES)
    raise PydanticCustomError(
        "unknown_source", "there is no such source; did you mean {near}?", {"near": either(names)}
    )


KnownSource = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(SOURCES)})
]
"""One of :data:`SOURCES`."""
