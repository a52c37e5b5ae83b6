"""Published weights by name, told from the catalog alone: the API loads no library of models."""

import difflib
import functools
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.catalog import Architecture, architectures

LIBRARIES = ("torchvision", "timm")
_JOB = "job:"
_MAX_SUGGESTIONS, _MIN_SIMILARITY = 3, 0.6
_EXAMPLES = "job:job_…, torchvision:ResNet50_Weights.IMAGENET1K_V2 or timm:resnet50.a1_in1k"


class PretrainedSource(NamedTuple):
    """Weights that can be downloaded."""

    architecture: Architecture
    source: str
    """Its full name, such as ``torchvision:ResNet50_Weights.IMAGENET1K_V2``."""


def resolve_pretrained(source: str) -> PretrainedSource:
    """The weights of that name; an architecture's name means its default ones.

    Raises ``KeyError`` for any other name.
    """
    name, full_name = _weights_by_source()[source]
    return PretrainedSource(architectures()[name], full_name)


@functools.cache
def _weights_by_source() -> dict[str, tuple[str, str]]:
    """Every way to name weights: architecture and full name of the weights."""
    weights_by_source: dict[str, tuple[str, str]] = {}
    for name, entry in architectures().items():
        library, _, bare = name.partition("/")
        if library not in LIBRARIES or not entry.pretrained:
            continue
        full = [f"{library}:{weights}" for weights in entry.pretrained]
        weights_by_source |= {source: (name, source) for source in full}
        weights_by_source[f"{library}:{bare}"] = (name, full[0])
        if library == "torchvision":
            # The library's name for the best of an architecture's weights.
            weights_by_source[f"{full[0].rpartition('.')[0]}.DEFAULT"] = (name, full[0])
    return weights_by_source


def _check_known(source: str) -> str:
    if source.startswith(_JOB) or source in _weights_by_source():
        return source
    if source.partition(":")[0] not in LIBRARIES:
        raise PydanticCustomError("unknown_source", f"must be like {_EXAMPLES}")
    raise PydanticCustomError(
        "unknown_weights",
        "there are no such published weights{near}; GET /v1/architectures lists them as pretrained",
        {"near": _suggestions(source)},
    )


def _suggestions(source: str) -> str:
    # Only the catalog's names are told, never what was sent.
    library = f"{source.partition(':')[0]}:"
    folded = {name.lower(): name for name in _weights_by_source() if name.startswith(library)}
    # Of an architecture that there is, its weights, the default first; else what is spelled alike.
    close = [name for name in folded if name.startswith(f"{source.lower().partition('.')[0]}.")]
    close = close or difflib.get_close_matches(
        source.lower(), folded, _MAX_SUGGESTIONS, _MIN_SIMILARITY
    )
    return (
        f"; near it: {', '.join(folded[name] for name in close[:_MAX_SUGGESTIONS])}"
        if close
        else ""
    )


SOURCE_PATTERN = r"^(job:job_[0-9a-z]{26}|(torchvision|timm):[A-Za-z0-9_.-]+)$"
ModelSource = Annotated[
    str,
    Field(max_length=200),
    AfterValidator(_check_known),
    WithJsonSchema({"type": "string", "maxLength": 200, "pattern": SOURCE_PATTERN}),
]
