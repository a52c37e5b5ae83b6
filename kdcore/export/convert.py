"""The ``convert`` command: a model's verified weights in, the same network as ONNX out."""

from pathlib import Path

import torch
from torch import Tensor

from kdcore.export import exported_program, onnx
from kdcore.export.exportable import facts
from kdcore.export.exporter import brief
from kdcore.export.runners import answers
from kdcore.models.normalized_model import Normalised
from kdcore.models.predict_logits import predict
from kdcore.models.teachers import open_model
from kdcore.protocol.requests import ConvertRequest, ModelFile
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import replacing
from kdcore.schema.exports import EXPORTS
from kdcore.weights.safetensors_io import ParityError, check_parity

_TRIALS = 5
"""Images on which the file must answer like PyTorch: one alone and four together."""


def convert(request: ConvertRequest, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Write ``model.onnx`` for any number of images, checked against the network in PyTorch.

    No data set is at hand, so the check is on noise. Raises UserFault ``no_onnx`` for a network
    that ONNX cannot hold or that answers differently as ONNX, ``checkpoint_invalid`` for a file
    that is not what was verified, and Stopped.
    """
    events.phase("convert")
    file, kind = request.model, EXPORTS["onnx"]
    network = Normalised(
        open_model(file, "checkpoint_invalid"), file.normalisation, file.input_size
    ).eval()
    written = workdir / "artifacts" / kind.file_name("model")
    data = _encoded(network, request)
    stop.check()
    events.phase("check")
    trial = written.with_name(f".unchecked.{written.name}")
    try:
        with replacing(trial) as partial:
            partial.write_bytes(data)
        gap = _gap(trial, network, file, stop)
        trial.replace(written)
    finally:
        trial.unlink(missing_ok=True)
    events.artifact(written, written.name, "onnx", kind.media_type)
    events.report({"max_rel_difference": gap})


def _encoded(network: Normalised, request: ConvertRequest) -> bytes:
    file = request.model
    told = facts(file.architecture, request.classes, file.normalisation, file.input_size)
    shape = (file.in_channels, file.input_size, file.input_size)
    try:
        return onnx.encoded(exported_program.trace(network.network, shape), told)
    except MemoryError:
        raise
    except Exception as error:  # exporters raise whatever a network provokes
        message = f"ONNX cannot be made of this network: {brief(error)}"
        raise UserFault("no_onnx", message) from error


def _gap(path: Path, network: Normalised, file: ModelFile, stop: Stop) -> float:
    images = _noise(file)
    own = predict(network, images, device=torch.device("cpu"), boundary=stop.check)
    given = answers(onnx.runner(path), network, images, stop.check)
    try:
        return check_parity(own, given)
    except ParityError as error:
        raise UserFault("no_onnx", str(error)) from error


def _noise(file: ModelFile) -> Tensor:
    """Images (N, C, H, W) uint8, the same for all models of a shape."""
    generator = torch.Generator().manual_seed(0)
    shape = (_TRIALS, file.in_channels, file.input_size, file.input_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
