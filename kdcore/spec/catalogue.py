"""The catalogue of architectures: what may be built, and what it costs."""

import difflib
import functools
import importlib.resources
import json
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from kdcore.spec.base import Spec


class Tap(Spec):
    """A place in a network where a feature map can be taken."""

    path: str
    shape: tuple[int, int, int]
    """(C, H, W) at the reference input."""


class Normalisation(Spec):
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


class Architecture(Spec):
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
    pooled_features: int
    taps: tuple[Tap, ...]
    normalisation: Normalisation
    licence: str
    paper: str | None


@functools.cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name, CIFAR names first, in the order that the API lists them."""
    text = importlib.resources.files("kdcore.spec").joinpath("catalogue.json").read_text("utf-8")
    entries = [Architecture.model_validate(entry) for entry in json.loads(text)["architectures"]]
    return {entry.name: entry for entry in entries}


def _known(name: str) -> str:
    if name not in architectures():
        # Only the catalogue's names are told, never what was sent.
        near = difflib.get_close_matches(f"cifar/{name.rpartition('/')[2]}", architectures(), 3)
        raise PydanticCustomError(
            "unknown_architecture",
            "there is no such architecture; {near}GET /v1/architectures lists them",
            {"near": f"near it: {', '.join(near)}; " if near else ""},
        )
    return name


ArchitectureName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_known)]
