"""The forms in which a finished network is handed over."""

from typing import Literal, NamedTuple

ExportFormat = Literal["safetensors", "onnx", "exported_program", "onnx_int8"]


class ExportFormatEntry(NamedTuple):
    """One form: how its file ends, what it is, and a sentence for people."""

    suffix: str
    media_type: str
    description: str

    def file_name(self, stem: str = "student") -> str:
        """Such as ``student.onnx``."""
        return f"{stem}{self.suffix}"


EXPORTS: dict[ExportFormat, ExportFormatEntry] = {
    "safetensors": ExportFormatEntry(
        ".safetensors",
        "application/octet-stream",
        "The weights alone; config.json says how to build the network around them.",
    ),
    "onnx": ExportFormatEntry(
        ".onnx",
        "application/octet-stream",
        "ONNX in float32 for any number of images at a time: runs wherever an ONNX runtime does, "
        "without PyTorch.",
    ),
    "exported_program": ExportFormatEntry(
        ".pt2",
        "application/octet-stream",
        "torch.export's ExportedProgram for any number of images at a time: runs in PyTorch "
        "without the code of the network.",
    ),
    "onnx_int8": ExportFormatEntry(
        ".int8.onnx",
        "application/octet-stream",
        "ONNX with weights and activations of eight bits, calibrated on training images: about a "
        "quarter of the size; its accuracy is measured and told.",
    ),
}
"""Every format, in the order that lists show them. ``safetensors`` is always made."""

STUDENT_FILE = EXPORTS["safetensors"].file_name()
"""The file that every job leaves."""
