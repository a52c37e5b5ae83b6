"""Verify a network in an upload: what it needs, and its outputs on a blank image."""

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from kdcore.models.programs.graph_network import GraphNetwork
from kdcore.models.programs.onnx_network import OnnxNetwork
from kdcore.models.programs.program_network import (
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
    shapes = _run_blank(network, side, upload.name)
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
        normalization=_read_normalization(network),
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


def _run_blank(network: ProgramNetwork, side: int, name: str) -> dict[str, tuple[int, ...]]:
    try:
        return run_interruptibly(lambda: network.select_logits(side), network.stop)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # operators and onnxruntime raise many types
        lines = str(error).splitlines() or [type(error).__name__]
        raise program_error(
            f"{name} fails on a blank image of {side} pixels: {lines[0][:300]}",
            hint="check input_size, and that the network runs on a batch of two images",
            fix_fields=("input_size",) if network.takes.side is None else (),
        ) from error


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
