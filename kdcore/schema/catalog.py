"""The catalog of architectures: names, sizes, costs and pretrained weights."""

import difflib
import functools
import importlib.resources
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel, JsonNumber


class Tap(FrozenModel):
    """A layer of a network whose output is a feature map."""

    path: str
    shape: tuple[int, int, int]
    """(C, H, W) at the reference input."""


class Normalization(FrozenModel):
    """Mean and standard deviation of each channel, with pixels from 0 to 1."""

    mean: Annotated[tuple[Annotated[float, JsonNumber], ...], Field(min_length=1, max_length=3)]
    std: Annotated[
        tuple[Annotated[float, JsonNumber, Field(gt=0)], ...], Field(min_length=1, max_length=3)
    ]

    @model_validator(mode="after")
    def _same_channels(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) == 2:
            raise PydanticCustomError(
                "channels_mismatch",
                "mean and std must have the same number of entries, 1 or 3: one for each channel",
            )
        return self


ProgramFormat = Literal["exported_program", "onnx"]
"""What `architecture` is for a network that a file defines: of torch.export, or ONNX."""
PROGRAM_FORMATS: tuple[ProgramFormat, ...] = ("exported_program", "onnx")


_MAX_DECLARED = 2
"""Pixels from 0 to 1 have smaller means and deviations; larger values belong to 0..255."""
_MAX_8_BIT = 255


def _check_scale(normalization: Normalization) -> Normalization:
    """Refuse values of pixels from 0 to 255, with the values for pixels from 0 to 1."""
    mean, std = normalization.mean, normalization.std
    largest = max(map(abs, (*mean, *std)))
    if largest <= _MAX_DECLARED:
        return normalization
    if largest > _MAX_8_BIT or any(0 < abs(value) < 1 for value in (*mean, *std)):
        raise PydanticCustomError(
            "normalization_scale",
            "has values of different scales: give the mean and the deviation of pixels from 0 to 1",
        )
    scaled = {
        "mean": [float(f"{value / _MAX_8_BIT:.8g}") for value in mean],
        "std": [float(f"{value / _MAX_8_BIT:.8g}") for value in std],
    }
    raise PydanticCustomError(
        "normalization_of_255",
        "has values of pixels from 0 to 255, but pixels are scaled to 0..1: divide mean and std by "
        "255, which gives mean {mean} and std {std}",
        {name: str(values) for name, values in scaled.items()} | {"replacement": scaled},
    )


DeclaredNormalization = Annotated[Normalization, AfterValidator(_check_scale)]
"""A normalization that a user declares. Stored ones were accepted before and are never refused."""


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
    """Length of the vector before the classifier; null where no single layer gives the logits."""
    taps: tuple[Tap, ...]
    normalization: Normalization
    license: str
    """SPDX name of the license of the code, and of the default weights if theirs is another."""
    paper: str | None
    pretrained: tuple[str, ...] = ()
    """Names of pretrained weights for ``torchvision:<name>`` and ``timm:<name>``, the default
    first."""


class ArchitectureCatalog(FrozenModel):
    """The file ``tables/catalog.json``, which the engine generates."""

    generated_by: str
    architectures: tuple[Architecture, ...]


@functools.cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name, in the order that the API lists them: sorted, CIFAR first."""
    folder = importlib.resources.files("kdcore.schema").joinpath("tables")
    text = folder.joinpath("catalog.json").read_bytes()
    return {
        entry.name: entry for entry in ArchitectureCatalog.model_validate_json(text).architectures
    }


def add_architecture(entry: Architecture) -> None:
    """Add an entry, or replace it, in this process."""
    architectures()[entry.name] = entry


def similar_architectures(name: str) -> list[str]:
    """Up to three similar names of the catalog, first those of the same library.

    A tag of weights, as in ``timm/resnet50.a1_in1k``, is not part of the architecture's name.
    """
    library, _, tagged = name.lower().rpartition("/")
    bare = tagged.partition(".")[0]
    by_bare: dict[str, list[str]] = {}
    for known in architectures():
        by_bare.setdefault(known.partition("/")[2].lower(), []).append(known)
    same_library = [
        bare_name
        for bare_name, names in by_bare.items()
        if any(_in_library(library, known) for known in names)
    ]
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


def _check_known(name: str, info: ValidationInfo) -> str:
    if name in PROGRAM_FORMATS:
        raise PydanticCustomError(
            "program_as_student",
            "a network from a file teaches, and is never trained: name an architecture",
        )
    if name not in architectures():
        # The message never repeats what the client sent.
        similar = similar_architectures(name)
        listing = (info.context or {}).get("architecture_listing", "GET /v1/architectures")
        raise PydanticCustomError(
            "unknown_architecture",
            "there is no such architecture; {near}{listing} lists all",
            {
                "near": f"similar names: {', '.join(similar)}; " if similar else "",
                "listing": listing,
            },
        )
    return name


def _check_model(name: str, info: ValidationInfo) -> str:
    return name if name in PROGRAM_FORMATS else _check_known(name, info)


ArchitectureName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_known)]
ModelArchitecture = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_model)]
"""The name of an architecture, or the format of a file that defines the network."""
