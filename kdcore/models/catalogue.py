"""Writes the catalogue of architectures: ``python -m kdcore.models.catalogue [--check]``.

The file is checked in because the API lists architectures and must not load torch to do so.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

import kdcore.spec
from kdcore.models import build, cost, taps
from kdcore.models.registry import ENTRIES
from kdcore.spec.catalogue import Architecture, Tap

PATH = Path(kdcore.spec.__file__).with_name("catalogue.json")
_COMMAND = "python -m kdcore.models.catalogue"
_CHANNELS = 3


def measure(name: str) -> Architecture:
    """One entry, measured on the reference network without computing a single pixel."""
    entry = ENTRIES[name]
    with torch.device("meta"):
        network = build(
            name,
            num_classes=entry.num_classes,
            in_channels=_CHANNELS,
            input_size=entry.input_size,
        )
        image = torch.empty(1, _CHANNELS, entry.input_size, entry.input_size)
        points = taps.find(network, image)
        with torch.no_grad(), taps.Tapped(network.eval(), points) as tapped:
            pooled = tapped(image).pooled
    return Architecture(
        name=name,
        family=entry.family,
        num_params=cost.num_params(network),
        macs=cost.macs(network, _CHANNELS, entry.input_size),
        input_size=entry.input_size,
        min_input_size=entry.min_input_size,
        in_channels=_CHANNELS,
        num_classes=entry.num_classes,
        pooled_features=pooled.shape[1],
        taps=tuple(
            Tap(path=path, shape=shape)
            for path, shape in zip(points.maps, points.shapes, strict=True)
        ),
        normalisation=entry.normalisation,
        licence=entry.licence,
        paper=entry.paper,
    )


def render() -> str:
    """The file's text: a list of all entries in the order of the registry."""
    entries: list[dict[str, Any]] = [measure(name).model_dump(mode="json") for name in ENTRIES]
    catalogue = {"generated_by": _COMMAND, "architectures": entries}
    return json.dumps(catalogue, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` say whether it is what would be written."""
    parser = argparse.ArgumentParser(prog=_COMMAND)
    parser.add_argument("--check", action="store_true", help="fail when the file is stale")
    options = parser.parse_args(arguments)
    text = render()
    if not options.check:
        PATH.write_text(text, encoding="utf-8")
        return 0
    if PATH.exists() and PATH.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{PATH} is stale: run {_COMMAND}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
