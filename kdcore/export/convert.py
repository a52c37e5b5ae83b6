"""The ``convert`` command: write a model's verified weights as ONNX."""

from pathlib import Path

import torch
from torch import Tensor

from kdcore.export import exported_program, onnx
from kdcore.export.exportable import onnx_metadata
from kdcore.export.exporter import first_line
from kdcore.export.parity import run_on_images
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.models.teachers import load_model
from kdcore.protocol.requests import ConvertRequest, ModelFile
from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
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
    data = _encode_onnx(network, request)
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


def _max_difference(
    path: Path, network: NormalizedModel, file: ModelFile, cancellation: CancellationToken
) -> float:
    images = _noise(file)
    reference_logits = predict(
        network, images, device=torch.device("cpu"), check_cancelled=cancellation.check_cancelled
    )
    onnx_logits = run_on_images(onnx.open_file(path), network, images, cancellation.check_cancelled)
    try:
        return check_parity(reference_logits, onnx_logits)
    except ParityError as error:
        raise UserError("no_onnx", str(error)) from error


def _noise(file: ModelFile) -> Tensor:
    """Return random images (N, C, H, W) uint8, equal for all models of a shape."""
    generator = torch.Generator().manual_seed(0)
    shape = (_NUM_IMAGES, file.in_channels, file.input_size, file.input_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
