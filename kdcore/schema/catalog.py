"""The catalog of architectures: what may be built, and what it costs."""

import difflib
import functools
import importlib.resources
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel


class Tap(FrozenModel):
    """A place in a network where a feature map can be taken."""

    path: str
    shape: tuple[int, int, int]
    """(C, H, W) at the reference input."""


class Normalization(FrozenModel):
    """Per-channel mean and deviation of pixels that are scaled to 0..1."""

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _same_channels(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) == 2:
            raise PydanticCustomError(
                "channels_mismatch", "mean and std must both have 1 entry or both 3, as channels"
            )
        return self


class Architecture(FrozenModel):
    """One architecture, measured at its reference input and number of classes."""

    name: str
    family: str
    num_params: int
    macs: int
    """Multiply-accumulates of one forward pass of one image."""
    input_size: int
    """Side of the square reference input, in pixels."""
    min_input_size: int
    in_channels: int
    num_classes: int
    pooled_features: int | None
    """Length of the vector before the classifier; None where no single layer gives the logits."""
    taps: tuple[Tap, ...]
    normalization: Normalization
    license: str
    """SPDX name, of the code and, where they are under another, of the default weights."""
    paper: str | None
    pretrained: tuple[str, ...] = ()
    """Names of published weights, the default first, as ``torchvision:<name>`` and ``timm:<name>``
    take them."""


class ArchitectureCatalog(FrozenModel):
    """The file that the engine writes and everyone reads."""

    generated_by: str
    architectures: tuple[Architecture, ...]


@functools.cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name, in the order that the API lists them: sorted, CIFAR first."""
    text = importlib.resources.files("kdcore.schema").joinpath("catalog.json").read_bytes()
    return {
        entry.name: entry for entry in ArchitectureCatalog.model_validate_json(text).architectures
    }


def similar_architectures(name: str) -> list[str]:
    """Up to three names of the catalog that ``name`` may mean, whatever library they are of."""
    library, _, bare = name.lower().rpartition("/")
    by_bare: dict[str, list[str]] = {}
    for known in architectures():
        by_bare.setdefault(known.partition("/")[2].lower(), []).append(known)
    same_library = [
        bare_name
        for bare_name, names in by_bare.items()
        if any(_in_library(library, known) for known in names)
    ]
    # The same library first, then any.
    close = [
        known
        for bare_name in difflib.get_close_matches(bare, same_library, 3)
        for known in by_bare[bare_name]
        if _in_library(library, known)
    ]
    close += [
        known
        for bare_name in difflib.get_close_matches(bare, by_bare, 3)
        for known in by_bare[bare_name]
    ]
    return list(dict.fromkeys(close))[:3]


def _in_library(library: str, name: str) -> bool:
    return name.startswith(f"{library}/")


def _check_known(name: str) -> str:
    if name not in architectures():
        # Only the catalog's names are told, never what was sent.
        similar = similar_architectures(name)
        raise PydanticCustomError(
            "unknown_architecture",
            "there is no such architecture; {near}GET /v1/architectures lists them",
            {"near": f"near it: {', '.join(similar)}; " if similar else ""},
        )
    return name


ArchitectureName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_known)]
