"""Write the catalog of architectures.

    python -m kdcore.models.catalog_tables.catalog_builder [--check]

An entry is measured on the meta device: cost, feature layers, smallest input. Beside the catalog is
the index of tensor shapes (``shape_index.py``), by which architectures are inferred.
Both are committed, because the API lists architectures without torch. Writing them takes twenty
minutes; ``--check --sample 8`` profiles eight entries again and compares them.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

import kdcore.schema
from kdcore.models import feature_hooks, flops, timm_networks, torchvision_networks
from kdcore.models.catalog_tables import shape_index
from kdcore.models.registry import ENTRIES
from kdcore.schema.catalog import Architecture, Normalization, Tap

PATH = Path(kdcore.schema.__file__).with_name("tables") / "catalog.json"
_COMMAND = "python -m kdcore.models.catalog_tables.catalog_builder"
_MAX_TIMM_PARAMS = 100e6
"""Larger networks of timm are not listed, but they can be built."""
_SEED = 0
CHANNELS = 3
_CLASSES = 1000
_SMALL_SIZES = (8, 16, 28, 32, 64, 96, 128)
"""Sides in pixels to try; a network that takes none of them needs its reference size."""
_LIBRARY_ERRORS = (
    AssertionError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

SizedFactory = Callable[[int], nn.Module]
"""Builds the reference network for images of a side in pixels."""


def names() -> list[str]:
    """Return every name that may be listed, sorted."""
    torchvision = (f"torchvision/{name}" for name in torchvision_networks.names())
    timm = (f"timm/{name}" for name in timm_networks.names())
    return sorted([*ENTRIES, *torchvision, *timm])


def lines(architecture_names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield name and line of each listed entry; failures are written to stderr."""
    for name in architecture_names:
        try:
            entry = profile_architecture(
                name, _MAX_TIMM_PARAMS if name.startswith("timm/") else float("inf")
            )
        except Exception as error:  # noqa: BLE001 - libraries raise many types
            sys.stderr.write(f"{name} is not listed: {type(error).__name__}: {error}\n")
            continue
        if entry is not None:
            yield name, entry.model_dump_json(exclude_defaults=True)


def render(entries: Iterable[str]) -> str:
    """Return the catalog as JSON with one line for each entry."""
    joined = ",\n".join(entries)
    return f'{{"generated_by":"{_COMMAND}","architectures":[\n{joined}\n]}}\n'


def stale_entries(text: str, architecture_names: list[str], sample: int | None) -> list[str]:
    """Return what is out of date in the catalog ``text``: names, and entries of a seeded sample.

    ``sample`` is the number of entries to profile again; None profiles every architecture.
    """
    listed = _listed_lines(text)
    wrong = [
        f"{name} does not exist any more" for name in listed if name not in set(architecture_names)
    ]
    wrong += [
        f"{name} is missing"
        for name in architecture_names
        if _always_listed(name) and name not in listed
    ]
    if list(listed) != sorted(listed):
        wrong.append("the names are not sorted")
    rechecked = architecture_names if sample is None else _sample(listed, sample)
    fresh = dict(lines(name for name in rechecked if name in set(architecture_names)))
    wrong += [f"{name} has changed" for name in rechecked if listed.get(name) != fresh.get(name)]
    return wrong


def _listed_lines(text: str) -> dict[str, str]:
    """Return the lines of a catalog by the names of their architectures."""
    return {
        Architecture.model_validate_json(line.rstrip(",")).name: line.rstrip(",")
        for line in text.splitlines()[1:-1]
    }


def _sample(listed: Iterable[str], size: int) -> list[str]:
    names_listed = sorted(listed)
    # The sample is not a secret.
    return random.Random(_SEED).sample(names_listed, min(size, len(names_listed)))  # noqa: S311


def _shape_lines(listed: Mapping[str, str]) -> dict[str, str]:
    """Return lines of the index of tensor shapes, for lines of a catalog."""
    entries = (Architecture.model_validate_json(line) for line in listed.values())
    return {entry.name: shape_index.index_line(entry.name, entry.input_size) for entry in entries}


def _stale_shapes(path: Path, text: str, sample: int | None) -> list[str]:
    """Return what is out of date in the index of tensor shapes of the catalog ``text``."""
    listed = _listed_lines(text)
    shapes = path.read_text(encoding="utf-8").splitlines()[1:-1] if path.exists() else []
    by_name = {line.split('"')[1]: line.rstrip(",") for line in shapes}
    if list(by_name) != list(listed):
        return [f"{path.name} has other names than the catalog"]
    rechecked = listed if sample is None else _sample(listed, sample)
    fresh = _shape_lines({name: listed[name] for name in rechecked})
    return [f"{name} has other tensors" for name in fresh if by_name[name] != fresh[name]]


def main(
    arguments: list[str] | None = None,
    path: Path = PATH,
    architecture_names: list[str] | None = None,
) -> int:
    """Write the catalog to ``path``, or with ``--check`` compare the file with a fresh profile.

    ``architecture_names`` default to all. Returns 1 for a stale file, else 0.
    """
    parser = argparse.ArgumentParser(prog=_COMMAND)
    parser.add_argument("--check", action="store_true", help="fail when the file is stale")
    parser.add_argument("--sample", type=int, help="with --check: number of entries to profile")
    options = parser.parse_args(arguments)
    architecture_names = names() if architecture_names is None else architecture_names
    shapes = path.with_name(shape_index.FILE_NAME)
    if not options.check:
        entries = dict(lines(architecture_names))
        path.write_text(render(entries.values()), encoding="utf-8")
        index = shape_index.render(_COMMAND, _shape_lines(entries).values())
        shapes.write_text(index, encoding="utf-8")
        return 0
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    wrong = stale_entries(text, architecture_names, options.sample)
    if text:
        wrong += _stale_shapes(shapes, text, options.sample)
    for problem in wrong:
        sys.stderr.write(f"{problem}\n")
    if wrong:
        sys.stderr.write(f"{path} is stale: run {_COMMAND}\n")
    return 1 if wrong else 0


def _always_listed(name: str) -> bool:
    return not name.startswith("timm/")


class ArchitectureMetadata(NamedTuple):
    """Facts of an architecture that cannot be measured."""

    make: SizedFactory
    family: str
    input_size: int
    min_input_size: int | None
    """None is determined by trying sizes."""
    size_dependent: bool
    """Whether the network depends on the side of the images."""
    num_classes: int
    normalization: Normalization
    license: str
    paper: str | None = None
    pretrained: tuple[str, ...] = ()


def profile_architecture(name: str, max_params: float = float("inf")) -> Architecture | None:
    """Return the catalog entry of ``name``; None for more than ``max_params`` parameters.

    Raises the library's exception for a network that does not classify images of 3 channels.
    """
    metadata = _METADATA[name.partition("/")[0]](name)
    with torch.device("meta"):
        network = metadata.make(metadata.input_size)
        if flops.num_params(network) > max_params:
            return None
        image = torch.empty(1, CHANNELS, metadata.input_size, metadata.input_size)
        with flops.count_flops(network) as counter:
            points = feature_hooks.find_hook_points(network, image)
        smallest = metadata.min_input_size or _min_input_size(metadata, network)
    if not counter.get_total_flops():
        raise ValueError("the network has no multiplications")
    return Architecture(
        name=name,
        family=metadata.family,
        num_params=flops.num_params(network),
        macs=int(counter.get_total_flops()) // 2,
        input_size=metadata.input_size,
        min_input_size=smallest,
        in_channels=CHANNELS,
        num_classes=metadata.num_classes,
        pooled_features=feature_hooks.pooled_features(network, points),
        taps=tuple(
            Tap(path=path, shape=shape)
            for path, shape in zip(points.maps, points.shapes, strict=True)
        ),
        normalization=metadata.normalization,
        license=metadata.license,
        paper=metadata.paper,
        pretrained=metadata.pretrained,
    )


def _min_input_size(metadata: ArchitectureMetadata, network: nn.Module) -> int:
    """Return the smallest tried side for which the network returns logits."""
    network.eval()
    for size in _SMALL_SIZES:
        try:
            fitting = metadata.make(size).eval() if metadata.size_dependent else network
            with torch.no_grad():
                logits = fitting(torch.empty(1, CHANNELS, size, size))
        except _LIBRARY_ERRORS:
            continue
        if size < metadata.input_size and logits.shape == (1, metadata.num_classes):
            return size
    return metadata.input_size


def _cifar(name: str) -> ArchitectureMetadata:
    entry = ENTRIES[name]
    return ArchitectureMetadata(
        make=lambda _: entry.make(entry.num_classes, CHANNELS),
        family=entry.family,
        input_size=entry.input_size,
        min_input_size=entry.min_input_size,
        size_dependent=False,
        num_classes=entry.num_classes,
        normalization=entry.normalization,
        license=entry.license,
        paper=entry.paper,
    )


def _torchvision(name: str) -> ArchitectureMetadata:
    library, bare = torchvision_networks, name.partition("/")[2]
    weights = library.pretrained_weights(bare)
    return _of_library(
        library,
        bare,
        size_dependent=bool(library.size_options(bare, 1)),
        normalization=library.normalization_of(bare, weights[0]),
        license=library.license_of(weights[0]),
        pretrained=tuple(str(entry) for entry in weights),
    )


def _timm(name: str) -> ArchitectureMetadata:
    library, bare = timm_networks, name.partition("/")[2]
    cfg = library.default_cfg(bare)
    return _of_library(
        library,
        bare,
        size_dependent=bool(cfg and cfg.fixed_input_size),
        normalization=library.normalization_of(cfg),
        license=library.license_of(cfg),
        pretrained=tuple(library.pretrained_cfgs(bare)),
    )


def _of_library(library: ModuleType, bare: str, **facts: Any) -> ArchitectureMetadata:
    """The metadata of a classifier of a library, with the ``facts`` that libraries name alike."""
    return ArchitectureMetadata(
        make=lambda size: library.make(
            bare, num_classes=_CLASSES, in_channels=CHANNELS, input_size=size
        ),
        family=library.family(bare),
        input_size=library.reference_size(bare),
        min_input_size=None,
        num_classes=_CLASSES,
        **facts,
    )


_METADATA: dict[str, Callable[[str], ArchitectureMetadata]] = {
    "cifar": _cifar,
    "torchvision": _torchvision,
    "timm": _timm,
}


if __name__ == "__main__":
    sys.exit(main())
