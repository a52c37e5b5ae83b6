"""Which architectures may a checkpoint belong to: an index of names and shapes of all of them.

The index is committed, because building 1,154 networks takes minutes. For each architecture it has
the number of tensors and a sketch: the smallest hashes of (name, shape), of the tensors that depend
neither on the number of classes nor on the input channels. A checkpoint that contains a network
contains all hashes of its sketch (Broder 1997, "On the resemblance and containment of documents").
A candidate is then compared with the network itself.
"""

import functools
import importlib.resources
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.models.registry import build_architecture

FILE_NAME = "tensor_shapes.json"
"""Beside the catalog."""
_SKETCH_SIZE = 8
_COUNTER = "num_batches_tracked"


class ShapeSketch(NamedTuple):
    """What the index has of one architecture."""

    num_tensors: int
    """Tensors of the state dict, without the counters of batch norms."""
    hashes: tuple[int, ...]


class Candidate(NamedTuple):
    """An architecture that a checkpoint may contain, under a prefix."""

    architecture: str
    prefix: str
    num_tensors: int


def find_candidates(tensors: Mapping[str, Tensor]) -> list[Candidate]:
    """Return the architectures whose sketch is in a checkpoint, those of most tensors first.

    ``tensors`` are named by their paths; any prefix is found. No architecture of the catalog that
    fits is left out; a candidate may still differ.
    """
    prefixes: dict[int, set[str]] = {}
    for path, tensor in tensors.items():
        shape = tuple(tensor.shape)
        for start in _suffix_starts(path):
            prefixes.setdefault(tensor_hash(path[start:], shape), set()).add(path[:start])
    num_tensors = sum(not path.endswith(_COUNTER) for path in tensors)
    candidates = []
    for name, sketch in shape_index().items():
        if sketch.num_tensors > num_tensors:
            continue
        shared: set[str] = set()
        for number, value in enumerate(sketch.hashes):
            shared = (
                prefixes.get(value, set()) if number == 0 else shared & prefixes.get(value, set())
            )
            if not shared:
                break
        candidates += [Candidate(name, prefix, sketch.num_tensors) for prefix in sorted(shared)]
    return sorted(candidates, key=lambda candidate: -candidate.num_tensors)


def tensor_hash(name: str, shape: tuple[int, ...]) -> int:
    """Return 32 bits of a tensor's name and shape."""
    return zlib.crc32(f"{name}:{','.join(map(str, shape))}".encode(errors="replace"))


@functools.cache
def shape_index() -> dict[str, ShapeSketch]:
    """Return the committed index by architecture."""
    text = importlib.resources.files("kdcore.schema").joinpath("tables", FILE_NAME).read_bytes()
    return {
        name: ShapeSketch(
            count, tuple(int(sketch[i : i + 8], 16) for i in range(0, len(sketch), 8))
        )
        for name, (count, sketch) in json.loads(text)["architectures"].items()
    }


def render(command: str, lines: Iterable[str]) -> str:
    """Return the index as JSON with one line for each architecture."""
    joined = ",\n".join(lines)
    return f'{{"generated_by":"{command}","architectures":{{\n{joined}\n}}}}\n'


def index_line(name: str, input_size: int) -> str:
    """Return the line of the index for an architecture, at its reference input size."""
    sketch = sketch_architecture(name, input_size)
    hashes = "".join(f"{value:08x}" for value in sketch.hashes)
    return f'"{name}":[{sketch.num_tensors},"{hashes}"]'


def sketch_architecture(name: str, input_size: int) -> ShapeSketch:
    """Build an architecture twice on the meta device and return its sketch."""
    reference, other = _shapes(name, 1000, 3, input_size), _shapes(name, 1001, 1, input_size)
    hashes = sorted(
        tensor_hash(key, shape) for key, shape in reference.items() if other.get(key) == shape
    )
    return ShapeSketch(len(reference), tuple(hashes[:_SKETCH_SIZE]))


def _shapes(
    name: str, num_classes: int, in_channels: int, input_size: int
) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build_architecture(
            name, num_classes=num_classes, in_channels=in_channels, input_size=input_size
        )
    return {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if not key.endswith(_COUNTER)
    }


def _suffix_starts(path: str) -> Iterator[int]:
    start = 0
    while True:
        yield start
        start = path.find(".", start) + 1
        if not start:
            return
