"""Published weights by name, told from the catalogue alone: the API loads no library of models."""

import difflib
import functools
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.catalog import Architecture, architectures

LIBRARIES = ("torchvision", "timm")
_JOB = "job:"
_NEAREST, _CLOSE = 3, 0.6
_EXAMPLES = "job:job_…, torchvision:ResNet50_Weights.IMAGENET1K_V2 or timm:resnet50.a1_in1k"


class Published(NamedTuple):
    """Weights that can be downloaded."""

    entry: Architecture
    source: str
    """Its full name, such as ``torchvision:ResNet50_Weights.IMAGENET1K_V2``."""


def published(source: str) -> Published:
    """The weights of that name; an architecture's name means its default ones.

    Raises ``KeyError`` for any other name.
    """
    name, wanted = _names()[source]
    return Published(architectures()[name], wanted)


@functools.cache
def _names() -> dict[str, tuple[str, str]]:
    """Every way to name weights: architecture and full name of the weights."""
    found: dict[str, tuple[str, str]] = {}
    for name, entry in architectures().items():
        library, _, bare = name.partition("/")
        if library not in LIBRARIES or not entry.pretrained:
            continue
        full = [f"{library}:{weights}" for weights in entry.pretrained]
        found |= {source: (name, source) for source in full}
        found[f"{library}:{bare}"] = (name, full[0])
        if library == "torchvision":
            # The library's name for the best of an architecture's weights.
            found[f"{full[0].rpartition('.')[0]}.DEFAULT"] = (name, full[0])
    return found


def _known(source: str) -> str:
    if source.startswith(_JOB) or source in _names():
        return source
    if source.partition(":")[0] not in LIBRARIES:
        raise PydanticCustomError("unknown_source", f"must be like {_EXAMPLES}")
    raise PydanticCustomError(
        "unknown_weights",
        "there are no such published weights{near}; GET /v1/architectures lists them as pretrained",
        {"near": _near(source)},
    )


def _near(source: str) -> str:
    # Only the catalogue's names are told, never what was sent.
    library = f"{source.partition(':')[0]}:"
    folded = {name.lower(): name for name in _names() if name.startswith(library)}
    # Of an architecture that there is, its weights, the default first; else what is spelled alike.
    close = [name for name in folded if name.startswith(f"{source.lower().partition('.')[0]}.")]
    close = close or difflib.get_close_matches(source.lower(), folded, _NEAREST, _CLOSE)
    return f"; near it: {', '.join(folded[name] for name in close[:_NEAREST])}" if close else ""


PATTERN = r"^(job:job_[0-9a-z]{26}|(torchvision|timm):[A-Za-z0-9_.-]+)$"
Source = Annotated[
    str,
    Field(max_length=200),
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "maxLength": 200, "pattern": PATTERN}),
]
