"""OnnxNetwork: an ONNX file, run by onnxruntime on the CPU."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from kdcore.models.programs.program_network import (
    ProgramInput,
    ProgramNetwork,
    check_input_shape,
    program_error,
)

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
"""Names of ONNX's set of operators."""
_EXPORT_HINT = (
    "export it again with one float32 input of images: "
    'torch.onnx.export(model.eval(), (images,), "model.onnx", dynamo=True)'
)
_ORT_FORMAT = b"ORTM"
_MAX_MODEL_BYTES = 2**31 - 1
"""Largest message of protocol buffers."""
_RUNTIME_ERRORS = (RuntimeError, ValueError, NotImplementedError)
_ERROR_LEVEL = 3
"""onnxruntime's log level for errors; its warnings are about performance."""


class OnnxNetwork(ProgramNetwork):
    """An ONNX file. Images on an accelerator are copied to the CPU, and the outputs back."""

    def __init__(self, data: bytes) -> None:
        import onnxruntime  # takes 0.2 s to load, and most jobs need none

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = _ERROR_LEVEL
        # Spinning threads would take the cores from torch's threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime has an exception type for each of its codes
            raise program_error(
                f"onnxruntime {onnxruntime.__version__} cannot run this network: "
                f"{_first_line(error)}",
                hint="check it with onnx.checker.check_model(model, full_check=True)",
            ) from error
        inputs = session.get_inputs()
        super().__init__(
            _read_input(inputs),
            [output.name for output in session.get_outputs()],
            len(data),
            # Another version of onnxruntime has other kernels, so other outputs.
            f"onnxruntime {onnxruntime.__version__}",
        )
        self._session = session
        self._input_name = inputs[0].name
        self._run_options: Any = onnxruntime.RunOptions()
        self.metadata = dict(session.get_modelmeta().custom_metadata_map)

    @property
    @override
    def num_params(self) -> int | None:
        """Unknown: ONNX does not say which tensors are parameters."""
        return None

    @override
    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs ``names`` of images (B, C, H, W), on the CPU."""
        feeds = {self._input_name: images.cpu().numpy()}
        arrays = self._session.run(list(names), feeds, self._run_options)
        return [torch.from_numpy(array) for array in arrays]

    @override
    def stop(self) -> None:
        """Let a call in another thread end before its next operator."""
        self._run_options.terminate = True


def _read_input(inputs: Sequence[Any]) -> ProgramInput:
    if len(inputs) != 1:
        listed = ", ".join(value.name for value in inputs) or "none"
        raise program_error(
            f"the network has {len(inputs)} inputs ({listed}); one, the images, is run",
            hint=_EXPORT_HINT,
        )
    value = inputs[0]
    if value.type != "tensor(float)":
        raise program_error(
            f"the input {value.name} has type {value.type}; float32 images, normalized, are run",
            hint=_EXPORT_HINT,
        )
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    channels, side = check_input_shape(sizes, _EXPORT_HINT)
    return ProgramInput(channels, side, sizes[0] or 1, sizes[0])


class OnnxContent(NamedTuple):
    """A parsed ONNX model."""

    model: Any
    external: tuple[Any, ...]
    """Tensors whose data are in other files."""


def parse_onnx(data: bytes, name: str) -> OnnxContent:
    """Parse an ONNX file and check what it needs. Nothing is run.

    Raises :class:`UserError` for damaged files, the format of onnxruntime, and operators that are
    not ONNX's and not defined in the file.
    """
    import onnx

    if data[4:8] == _ORT_FORMAT:
        raise program_error(f"{name} is in onnxruntime's format; upload the .onnx file")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # the parser has no public exception type
        raise program_error(
            f"{name} is cut off or damaged: it is not a complete ONNX file",
            hint="upload the complete file again",
        ) from error
    if not model.graph.output:
        raise program_error(f"{name} has no network: its graph has no output")
    _check_operators(model, name)
    tensors = _tensors(model)
    external = [tensor for tensor in tensors if tensor.data_location == tensor.EXTERNAL]
    return OnnxContent(model, tuple(external))


def encode_onnx(model: Any, name: str) -> bytes:
    """Return the bytes of a model with all of its data. Raises :class:`UserError` above 2 GiB."""
    if model.ByteSize() > _MAX_MODEL_BYTES:
        raise program_error(f"{name} has more than 2 GiB with its data")
    return bytes(model.SerializeToString(deterministic=True))


def _check_operators(model: Any, name: str) -> None:
    defined = {(function.domain, function.name) for function in model.functions}
    nodes = [*_messages(model.graph, "NodeProto")]
    for function in model.functions:
        nodes += _messages(function, "NodeProto")
    custom = sorted(
        {
            f"{node.domain}::{node.op_type}"
            for node in nodes
            if node.domain not in _STANDARD_DOMAINS and (node.domain, node.op_type) not in defined
        }
    )
    if custom:
        raise program_error(
            f"{name} uses the operator {custom[0]}, which is not one of ONNX; custom operators are "
            "code and never run",
            hint="export the network with ONNX's operators alone",
            items=custom,
        )


def _tensors(model: Any) -> list[Any]:
    return [*_messages(model, "TensorProto")]


def _messages(message: Any, kind: str) -> Iterator[Any]:
    """Return all messages of a type inside ``message``, at any depth."""
    pending = [message]
    while pending:
        current = pending.pop()
        for field, value in current.ListFields():
            if field.message_type is None:
                continue
            for inner in [value] if hasattr(value, "ListFields") else value:
                if inner.DESCRIPTOR.name == kind:
                    yield inner
                pending.append(inner)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
