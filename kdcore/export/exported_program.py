"""The network as torch's ExportedProgram: its graph and weights, without its Python code."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdcore.export.runners import ExportRunner

_SOURCE_LOCATION_KEYS = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "custom")
"""What a graph says of the Python code that it was traced from, paths of this machine included."""


def export_program(network: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """The graph of a network in eval mode on the CPU, for any number of images (C, H, W).

    Raises what ``torch.export`` does for a network whose graph depends on its input.
    """
    # Two images, because torch takes a size of one for a constant; one runs as well.
    example = torch.zeros(2, *shape)
    with torch.no_grad():
        program = torch.export.export(
            network, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )
    for node in program.graph_module.graph.nodes:
        for key in _SOURCE_LOCATION_KEYS:
            node.meta.pop(key, None)
    return program


def serialize(program: ExportedProgram) -> bytes:
    """As ``torch.export.save`` writes it: equal bytes for equal graphs and weights."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def open_runner(path: Path) -> ExportRunner:
    """Open a file as a user would."""
    module = torch.export.load(path).module()

    def call(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = module(images)
            return logits

    return ExportRunner(call, call)
