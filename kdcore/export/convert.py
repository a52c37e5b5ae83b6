"""The ``convert`` command: write a model's verified weights as ONNX."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from kdcore.export import exported_program, onnx
from kdcore.export.exportable import onnx_metadata
from kdcore.export.exporter import first_line
from kdcore.export.parity import run_on_images
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.models.programs.load import load_program
from kdcore.models.programs.onnx_network import encode_onnx, parse_onnx
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import load_model
from kdcore.protocol.requests import ConvertRequest, ModelFile
from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.catalog import PROGRAM_FORMATS
from kdcore.schema.exports import EXPORTS
from kdcore.weights.safetensors_io import ParityError, check_parity

_NUM_IMAGES = 5
"""Images for the comparison with PyTorch: one alone and four together."""


def convert(
    request: ConvertRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Write ``artifacts/model.onnx`` for any batch size, compared with the network in PyTorch.

    The comparison uses noise, because there is no data set. Raises :class:`UserError` ``no_onnx``
    for a network that cannot be exported or whose logits change, ``checkpoint_invalid`` for a file
    that changed after verification, and :class:`RunCancelledError`.
    """
    events.phase("convert")
    file, kind = request.model, EXPORTS["onnx"]
    network = NormalizedModel(
        load_model(file, "checkpoint_invalid"), file.normalization, file.input_size
    ).eval()
    written = workdir / "artifacts" / kind.file_name("model")
    data = (
        _encode_program(network.network, file)
        if file.architecture in PROGRAM_FORMATS
        else _encode_onnx(network, request)
    )
    cancellation.check_cancelled()
    events.phase("check")
    trial = written.with_name(f".unchecked.{written.name}")
    try:
        with atomic_write(trial) as partial:
            partial.write_bytes(data)
        max_difference = _max_difference(trial, network, file, cancellation)
        trial.replace(written)
    finally:
        trial.unlink(missing_ok=True)
    events.artifact(written, written.name, "onnx", kind.media_type)
    events.report({"max_rel_difference": max_difference})


def _encode_onnx(network: NormalizedModel, request: ConvertRequest) -> bytes:
    file = request.model
    metadata = onnx_metadata(
        file.architecture, request.classes, file.normalization, file.input_size
    )
    shape = (file.in_channels, file.input_size, file.input_size)
    try:
        return onnx.export_onnx(exported_program.export_program(network.network, shape), metadata)
    except MemoryError:
        raise
    except Exception as error:  # exporters raise many types
        message = f"this network cannot be exported to ONNX: {first_line(error)}"
        raise UserError("no_onnx", message) from error


def _encode_program(network: Any, file: ModelFile) -> bytes:
    if file.architecture == "onnx":
        return _select_output(Path(file.path).read_bytes(), network.logits_name)
    try:
        return _export_one_image(network, (file.in_channels, file.input_size, file.input_size))
    except MemoryError:
        raise
    except Exception as error:  # exporters raise many types
        message = f"this network cannot be exported to ONNX: {first_line(error)}"
        raise UserError("no_onnx", message) from error


def _max_difference(
    path: Path, network: NormalizedModel, file: ModelFile, cancellation: CancellationToken
) -> float:
    images = _noise(file)
    reference_logits = predict(
        network, images, device=torch.device("cpu"), check_cancelled=cancellation.check_cancelled
    )
    run_batch = (
        load_program(path, "onnx", file.input_size)
        if file.architecture in PROGRAM_FORMATS
        else onnx.open_file(path)
    )
    onnx_logits = run_on_images(run_batch, network, images, cancellation.check_cancelled)
    try:
        return check_parity(reference_logits, onnx_logits)
    except ParityError as error:
        raise UserError("no_onnx", str(error)) from error


def _noise(file: ModelFile) -> Tensor:
    """Return random images (N, C, H, W) uint8, equal for all models of a shape."""
    generator = torch.Generator().manual_seed(0)
    shape = (_NUM_IMAGES, file.in_channels, file.input_size, file.input_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


class SingleImage(nn.Module):
    """A network for one image; a network of a fixed batch gets blank images beside it."""

    def __init__(self, network: ProgramNetwork) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (1, num_classes) of an image (1, C, H, W)."""
        padding = (0, 0, 0, 0, 0, 0, 0, self.network.takes.min_batch - 1)
        outputs = self.network.run(functional.pad(image, padding), (self.network.logits_name,))
        return outputs[0][:1]


def _export_one_image(network: ProgramNetwork, shape: tuple[int, int, int]) -> bytes:
    """Return ONNX bytes of a program of torch.export, for one image (C, H, W).

    Raises the exporter's exception for an operator that ONNX does not have.
    """
    with torch.no_grad():
        program = torch.export.export(
            SingleImage(network).eval(), (torch.zeros(1, *shape),), strict=False
        )
    return onnx.export_onnx(program, {})


def _select_output(data: bytes, logits_name: str) -> bytes:
    """Return an ONNX file with the logits as its only output."""
    model = parse_onnx(data, "the model").model
    others = [output for output in model.graph.output if output.name != logits_name]
    for output in others:
        model.graph.output.remove(output)
    return encode_onnx(model, "the model")
