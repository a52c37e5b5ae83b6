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
_RUNTIME_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms", "org.pytorch")
"""Domains whose operators onnxruntime has itself; it ignores a function of such a name."""
_RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_TRAINING_HINT = "export it again in eval mode: call model.eval() before torch.onnx.export"
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

    Raises :class:`UserError` for damaged files, the format of onnxruntime, operators that are not
    ONNX's and not defined in the file, random numbers and layers in training mode.
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
    tensors = _messages(model, "TensorProto")
    external = [tensor for tensor in tensors if tensor.data_location == tensor.EXTERNAL]
    return OnnxContent(model, tuple(external))


def encode_onnx(model: Any, name: str) -> bytes:
    """Return the bytes of a model with all of its data. Raises :class:`UserError` above 2 GiB."""
    if model.ByteSize() > _MAX_MODEL_BYTES:
        raise program_error(f"{name} has more than 2 GiB with its data")
    return bytes(model.SerializeToString(deterministic=True))


def _check_operators(model: Any, name: str) -> None:
    """Check the operators of the graph ``model``, at any depth, and of its functions.

    Raises :class:`UserError` for operators that are not ONNX's and not defined in the file, for
    random numbers and for layers in training mode. ``name`` is the file's.
    """
    scopes = [model.graph, *model.functions]
    _check_domains(model, scopes, name)
    for scope in scopes:
        _check_training(scope, name)


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


def _check_domains(model: Any, scopes: Sequence[Any], name: str) -> None:
    for function in model.functions:
        domain = function.domain
        if not domain or domain.startswith(_RUNTIME_DOMAINS):
            raise program_error(
                f"{name} defines the function {domain or 'ai.onnx'}::{function.name} under the "
                "name of an operator of onnxruntime, which would run instead",
                hint="give the function a domain of your own",
                items=[f"{domain}::{function.name}"],
            )
    defined = {(function.domain, function.name) for function in model.functions}
    nodes = [node for scope in scopes for node in _messages(scope, "NodeProto")]
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


def _check_training(scope: Any, name: str) -> None:
    """Raise :class:`UserError` for random numbers and training mode in a graph or a function."""
    nodes = [n for n in _messages(scope, "NodeProto") if n.domain in _STANDARD_DOMAINS]
    for node in nodes:
        if node.op_type in _RANDOM_OPERATORS:
            raise program_error(
                f"{name} has the operator {node.op_type}, so its outputs are random",
                hint=f"{_TRAINING_HINT}, and export a network without random numbers",
                items=[node.op_type],
            )
        if _trains(node, scope):
            raise program_error(
                f"{name} has the layer {node.op_type} in training mode"
                f"{f' ({node.name[:200]})' if node.name else ''}",
                hint=_TRAINING_HINT,
                items=[node.op_type],
            )


def _trains(node: Any, scope: Any) -> bool:
    """Tell whether a node is in training mode, or could be."""
    if node.op_type == "Dropout":
        return any(node.input[2:]) and not _is_constant_false(node.input[2], scope)
    if node.op_type == "BatchNormalization":
        # Before opset 14, outputs of the statistics selected training mode.
        modes = [a for a in node.attribute if a.name == "training_mode"]
        return any(node.output[1:]) or any(mode.i != 0 or mode.ref_attr_name for mode in modes)
    return False


def _is_constant_false(value: str, scope: Any) -> bool:
    """Tell whether each definition of ``value`` in a scope is a constant that is false.

    Subgraphs beside one another may define the same name.
    """
    definitions = [
        _constant(node) for node in _messages(scope, "NodeProto") if value in node.output
    ]
    graphs = [*_messages(scope, "GraphProto")]
    for graph in graphs:
        definitions += [None for formal in graph.input if formal.name == value]
    if scope.DESCRIPTOR.name == "GraphProto":
        graphs.append(scope)
    for graph in graphs:
        definitions += [tensor for tensor in graph.initializer if tensor.name == value]
    return bool(definitions) and all(map(_is_false, definitions))


def _constant(node: Any) -> Any:
    """Return the tensor of a Constant; None for other nodes."""
    if node.op_type != "Constant" or node.domain not in _STANDARD_DOMAINS:
        return None
    tensors = [a.t for a in node.attribute if a.name == "value" and a.HasField("t")]
    return tensors[0] if len(node.attribute) == len(tensors) == 1 else None


def _is_false(tensor: Any) -> bool:
    if tensor is None or tensor.data_location == tensor.EXTERNAL:
        return False
    if tensor.data_type != tensor.BOOL or any(size != 1 for size in tensor.dims):
        return False
    if tensor.HasField("raw_data"):
        return bool(tensor.raw_data == b"\0") and not tensor.int32_data
    return list(tensor.int32_data) == [0]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
