"""Names of pretrained weights, from the catalog: the API imports neither torchvision nor timm."""

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
    """Pretrained weights that a worker can download."""

    architecture: Architecture
    source: str
    """The full name of the weights, such as ``torchvision:ResNet50_Weights.IMAGENET1K_V2``."""


def resolve_pretrained(source: str) -> PretrainedSource:
    """The weights of a name; the name of an architecture means its default weights.

    Raises:
        KeyError: the catalog has no such weights.
    """
    name, full_name = _weights_by_source()[source]
    return PretrainedSource(architectures()[name], full_name)


@functools.cache
def _weights_by_source() -> dict[str, tuple[str, str]]:
    """Every accepted name, with the architecture and the full name of its weights."""
    weights_by_source: dict[str, tuple[str, str]] = {}
    for name, entry in architectures().items():
        library, _, bare = name.partition("/")
        if library not in LIBRARIES or not entry.pretrained:
            continue
        full = [f"{library}:{weights}" for weights in entry.pretrained]
        weights_by_source |= {source: (name, source) for source in full}
        weights_by_source[f"{library}:{bare}"] = (name, full[0])
        if library == "torchvision":
            # torchvision's alias for the best weights of an architecture.
            weights_by_source[f"{full[0].rpartition('.')[0]}.DEFAULT"] = (name, full[0])
    return weights_by_source


def _check_known(source: str) -> str:
    if source.startswith(_JOB) or source in _weights_by_source():
        return source
    if source.partition(":")[0] not in LIBRARIES:
        raise PydanticCustomError("unknown_source", f"must have one of these forms: {_EXAMPLES}")
    raise PydanticCustomError(
        "unknown_weights",
        "unknown pretrained weights{near}; `pretrained` of GET /v1/architectures lists all names",
        {"near": _suggestions(source)},
    )


def _suggestions(source: str) -> str:
    # The message contains names of the catalog only, never the value of the request.
    library = f"{source.partition(':')[0]}:"
    folded = {name.lower(): name for name in _weights_by_source() if name.startswith(library)}
    # A known architecture suggests its own weights; else names of similar spelling.
    close = [name for name in folded if name.startswith(f"{source.lower().partition('.')[0]}.")]
    close = close or difflib.get_close_matches(
        source.lower(), folded, _MAX_SUGGESTIONS, _MIN_SIMILARITY
    )
    return (
        f"; similar names: {', '.join(folded[name] for name in close[:_MAX_SUGGESTIONS])}"
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
