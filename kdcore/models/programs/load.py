"""Load a network from a file: a program of torch.export, or ONNX."""

from pathlib import Path

from kdcore.models.programs.graph_network import GraphNetwork
from kdcore.models.programs.onnx_network import OnnxNetwork
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.schema.catalog import ProgramFormat


def load_program(path: Path, program_format: ProgramFormat, input_size: int) -> ProgramNetwork:
    """Load the network of a verified file and find its logits, on the CPU, in eval mode.

    ``input_size`` is the side of its images in pixels. Raises :class:`UserError`.
    """
    network: ProgramNetwork
    if program_format == "onnx":
        network = OnnxNetwork(path.read_bytes())
    else:
        network = GraphNetwork.from_file(path, path.name)
    network.select_logits(input_size)
    return network.eval()
