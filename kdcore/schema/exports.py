"""Export formats of a trained network."""

from typing import Literal, NamedTuple

ExportFormat = Literal["safetensors", "onnx", "exported_program", "onnx_int8"]


class ExportFormatEntry(NamedTuple):
    """One export format: suffix of its file, media type and description."""

    suffix: str
    media_type: str
    description: str

    def file_name(self, stem: str = "student") -> str:
        """File name with this suffix, such as ``student.onnx``."""
        return f"{stem}{self.suffix}"


EXPORTS: dict[ExportFormat, ExportFormatEntry] = {
    "safetensors": ExportFormatEntry(
        ".safetensors",
        "application/octet-stream",
        "The weights only; config.json describes the network that loads them.",
    ),
    "onnx": ExportFormatEntry(
        ".onnx",
        "application/octet-stream",
        "ONNX in float32 for batches of any size: runs with every ONNX runtime, without PyTorch.",
    ),
    "exported_program": ExportFormatEntry(
        ".pt2",
        "application/octet-stream",
        "ExportedProgram of torch.export for batches of any size: runs in PyTorch without the "
        "code of the network.",
    ),
    "onnx_int8": ExportFormatEntry(
        ".int8.onnx",
        "application/octet-stream",
        "ONNX with int8 weights and activations, calibrated on training images: about a quarter "
        "of the size. The report has its accuracy.",
    ),
}
"""Every format, in the order of lists. Every job exports ``safetensors``."""

STUDENT_FILE = EXPORTS["safetensors"].file_name()
"""The file that every job exports."""
