"""Verify a network in an upload: what it needs, and its outputs on blank and random images.

Random images show what a blank image hides: probabilities, random numbers, outputs that depend on
the batch, and memory that grows with the pixels.
"""

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from kdcore.models.programs.graph_network import GraphNetwork
from kdcore.models.programs.onnx_network import OnnxNetwork
from kdcore.models.programs.program_network import (
    ProgramInput,
    ProgramNetwork,
    first_side,
    program_error,
)
from kdcore.protocol.requests import VerifyRequest
from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import ModelInfo
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import EXPORTS
from kdcore.weights.program_upload import (
    FORMAT_NOUNS,
    ProgramUpload,
    read_onnx,
    scan_program,
)

_T = TypeVar("_T")
_UNKNOWN_NORMALIZATION = Normalization(mean=(0.5,), std=(0.25,))
"""For random images where the file has none; usual ones give about the same range."""
_SEED = 20261
_NUM_IMAGES = 4
_MAX_DEPENDENCE = 0.25
"""Difference that other images of the batch may make, as a share of the difference between images.
Dynamic quantization, whose scale is that of the batch, makes 0.02 in cifar/resnet8 and 0.09 in
torchvision/resnet18; subtraction of the mean of the batch makes more than 0.5."""
_MAX_ROUNDING = 1e-2
"""The same as a share of the output, for networks that hardly distinguish random images."""
_MAX_SUM_ERROR = 5e-3
"""Deviation from 1 of the sum of probabilities of 16 bits."""
_EVAL_HINT = "export the network in eval mode, after model.eval()"


def verify_program(
    upload: ProgramUpload, request: VerifyRequest, workdir: Path, events: EventWriter
) -> None:
    """Verify a network, and write its file to ``artifacts``.

    Raises :class:`UserError` ``checkpoint_invalid``.
    """
    _check_request(request, upload)
    network: ProgramNetwork
    if upload.format == "exported_program":
        scan_program(upload, upload.folder)
        data = upload.path.read_bytes()
        network = GraphNetwork.from_file(upload.path, upload.name)
    else:
        data = read_onnx(upload)
        network = run_interruptibly(lambda: OnnxNetwork(data))
    _write(data, _describe(network, upload, request), workdir, events)


def _check_request(request: VerifyRequest, upload: ProgramUpload) -> None:
    noun = FORMAT_NOUNS[upload.format]
    if request.architecture not in (None, upload.format):
        raise program_error(
            f"{upload.name} is {noun}, which contains its network, and architecture names "
            f"{request.architecture}",
            hint=f"set architecture to {upload.format}, or leave it out; or upload a state dict: "
            'torch.save(model.state_dict(), "state_dict.pt")',
            fix_fields=("architecture",),
        )
    for field in ("key_map", "weights"):
        if getattr(request, field):
            raise program_error(
                f"{upload.name} is {noun}, and {field} is for the tensors of a state dict",
                hint=f"leave {field} out",
                fix_fields=(field,),
            )


def _describe(network: ProgramNetwork, upload: ProgramUpload, request: VerifyRequest) -> ModelInfo:
    side = first_side(network.takes, request.input_size or _read_size(network))
    shapes = _run(network, side, upload.name, "a blank image", lambda: network.select_logits(side))
    normalization = _read_normalization(network)
    images = _random_images(network.takes, side, normalization or _UNKNOWN_NORMALIZATION)
    _run(network, side, upload.name, "random images", lambda: _check_outputs(network, images))
    (num_classes,) = shapes[network.logits_name]
    if request.num_classes not in (None, num_classes):
        raise program_error(
            f"{upload.name} has {num_classes} classes, not {request.num_classes}",
            hint=f"set num_classes to {num_classes}, or leave it out",
            fix_fields=("num_classes",),
        )
    names = _read_json(network, "classes")
    has_names = isinstance(names, list) and len(names) == num_classes == len(set(map(str, names)))
    return ModelInfo(
        architecture=upload.format,
        num_classes=num_classes,
        in_channels=network.takes.channels,
        num_params=network.num_params,
        input_size=side,
        normalization=normalization,
        class_names=tuple(map(str, names)) if has_names else None,
        outputs={name: shape for name, shape in shapes.items() if name != network.logits_name},
        warnings=_warnings(network, upload, request),
    )


def _warnings(
    network: ProgramNetwork, upload: ProgramUpload, request: VerifyRequest
) -> tuple[str, ...]:
    warnings = []
    if request.architecture is None:
        warnings.append(
            f"{upload.name} is {FORMAT_NOUNS[upload.format]}, so architecture is {upload.format}: "
            "it teaches and is evaluated, and cannot be a student"
        )
    batch = network.takes.max_batch
    if batch is not None:
        warnings.append(
            f"the network takes batches of {batch} images: larger ones are run in pieces, the last "
            "of them padded"
        )
    return tuple(warnings)


def _run(network: ProgramNetwork, side: int, name: str, images: str, call: Callable[[], _T]) -> _T:
    """Return the result of ``call``, which runs the network on ``images`` (a noun)."""
    try:
        return run_interruptibly(call, network.stop)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # operators and onnxruntime raise many types
        lines = str(error).splitlines() or [type(error).__name__]
        raise program_error(
            f"{name} fails on {images} of {side} pixels: {lines[0][:300]}",
            hint="check input_size, and that the network runs on a batch of several images",
            fix_fields=("input_size",) if network.takes.side is None else (),
        ) from error


def _random_images(takes: ProgramInput, side: int, normalization: Normalization) -> Tensor:
    """Return normalized images (1.5 B, C, side, side) from dark to bright; the last is white.

    B is a batch size that the network takes, at least 2 if it can be.
    """
    batch = max(takes.min_batch, min(takes.max_batch or _NUM_IMAGES, _NUM_IMAGES))
    count = batch + batch // 2
    noise = torch.rand(
        count, takes.channels, side, side, generator=torch.Generator().manual_seed(_SEED)
    )
    pixels = (noise + torch.linspace(0, 1, count).view(-1, 1, 1, 1)) / 2
    pixels[-1] = 1
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1) for values in (normalization.mean, normalization.std)
    )
    return (pixels - mean) / std


def _check_outputs(network: ProgramNetwork, images: Tensor) -> None:
    """Run a network whose logits are selected on the ``images`` of :func:`_random_images`.

    Raises :class:`UserError` for outputs that are not the same in a second run, that depend on the
    other images of the batch, and for logits that are not finite or are probabilities.
    """
    offset = len(images) // 3
    size = len(images) - offset
    with torch.no_grad():
        first, again, other = (
            dict(zip(network.output_names, network.run(batch, network.output_names), strict=True))
            for batch in (images[:size].clone(), images[:size].clone(), images[offset:].clone())
        )
    _check_logits(network.logits_name, torch.cat([b[network.logits_name] for b in (first, other)]))
    for name, output in first.items():
        _check_repeated(name, output, again[name])
    for name, output in first.items():
        if offset and output.shape[:1] == (size,) and output.is_floating_point():
            _check_rows(name, output.double(), other[name].double(), offset)


def _check_logits(name: str, logits: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        raise program_error("the logits of random images are infinite or not a number")
    sums = logits.double().sum(1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() <= _MAX_SUM_ERROR).all()):
        raise program_error(
            f"the output {name} holds probabilities: on random images no value is negative, and "
            "the values of each image sum to 1; a teacher needs logits, the values before the "
            "softmax",
            hint="export the network without its softmax",
        )


def _check_repeated(name: str, output: Tensor, again: Tensor) -> None:
    if output.shape == again.shape and bool(torch.isclose(output, again, 0, 0, True).all()):
        return
    raise program_error(
        f"the output {name} differs between two runs on the same images, so the network has random "
        "numbers, or changes itself",
        hint=_EVAL_HINT,
    )


def _check_rows(name: str, output: Tensor, other: Tensor, offset: int) -> None:
    """Compare the rows of the images in both batches; ``other`` begins at image ``offset``."""
    if output.shape == other.shape:
        rows, others = output[offset:], other[:-offset]
        between_images = _root_mean_square(output - output.mean(0))
        allowed = _MAX_DEPENDENCE * between_images + _MAX_ROUNDING * _root_mean_square(output)
        if not _root_mean_square(rows - others) > allowed:
            return
    raise program_error(
        f"the output {name} of an image depends on the other images of the batch",
        hint=f"{_EVAL_HINT}, and without statistics of the batch",
    )


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def run_interruptibly(call: Callable[[], _T], stop: Callable[[], None] = lambda: None) -> _T:
    """Return the result of ``call``, which runs in a thread.

    The signal of the limit of processor time is raised in the main thread. A library's own loop
    there would delay it. On an exception here, ``stop`` asks the library to end.
    """
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get()
    except BaseException:
        stop()
        raise
    if error is not None:
        raise error
    value: _T = result
    return value


def _read_json(network: ProgramNetwork, name: str) -> Any:
    """Return a value of the metadata that this service writes into ONNX files; None without it."""
    try:
        return json.loads(network.metadata.get(name, "null"))
    except (ValueError, RecursionError):
        return None


def _read_size(network: ProgramNetwork) -> int | None:
    size = _read_json(network, "input_size")
    return size if isinstance(size, int) and 8 <= size <= 4096 else None


def _read_normalization(network: ProgramNetwork) -> Normalization | None:
    try:
        read = Normalization.model_validate(_read_json(network, "normalization"))
    except ValidationError:
        return None
    return read if len(read.mean) == network.takes.channels else None


def _write(data: bytes, info: ModelInfo, workdir: Path, events: EventWriter) -> None:
    events.phase("write")
    kind = EXPORTS["onnx" if info.architecture == "onnx" else "exported_program"]
    path = workdir / "artifacts" / kind.file_name("model")
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    events.artifact(path, path.name, info.architecture, kind.media_type)
    events.report(info.model_dump(mode="json"))
