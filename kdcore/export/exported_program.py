"""Export to torch's ExportedProgram: graph and weights, without Python code."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdcore.export.parity import RunBatch

_SOURCE_LOCATION_KEYS = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "custom")
"""Metadata of nodes about the traced Python code, with paths of this machine."""


def export_program(network: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """Trace a network in eval mode on the CPU, for batches of any size of images (C, H, W).

    Raises ``torch.export``'s exception for a network whose graph depends on its input.
    """
    # Two images, because torch treats a batch of one as a constant; a batch of one still runs.
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
    """Encode a program by ``torch.export.save``: equal bytes for equal graphs and weights."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def open_file(path: Path) -> RunBatch:
    """Load the file as a user would. It runs with torch's number of threads."""
    module = torch.export.load(path).module()

    def call(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = module(images)
            return logits

    return call
