"""Export to ONNX: float32, any batch size, with metadata in the file."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.export import ExportedProgram

from kdcore.export.parity import RunBatch

IMAGE, LOGITS = "image", "logits"
_ERROR = 3
"""onnxruntime's log level for errors; its warnings are about performance."""


def export_onnx(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return ONNX bytes with the input ``image`` (batch, C, H, W), normalized, and ``logits``.

    Equal programs and metadata give equal bytes. Raises ``onnx.checker.ValidationError`` for an
    invalid graph, and the exporter's exception for an operator that ONNX does not have.
    """
    with warnings.catch_warnings():
        # The exporter itself uses deprecated parts of torch; the result is checked below.
        warnings.simplefilter("ignore")
        onnx_program = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[IMAGE],
            output_names=[LOGITS],
            external_data=False,
            verbose=False,
        )
    if onnx_program is None:
        raise RuntimeError("torch's exporter returned no ONNX program")
    model = onnx_program.model_proto
    _strip_metadata(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _strip_metadata(model: Any) -> None:
    """Name the batch dimension, and remove metadata about code and paths of this machine."""
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("metadata_props")
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = size.dim_param.replace(symbol, "batch")
    for part in (graph, *graph.node, *graph.initializer, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def open_file(path: Path, threads: int | None = None) -> RunBatch:
    """Load the file as a user would, in onnxruntime on the CPU; None for its default options."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([LOGITS], {IMAGE: images.numpy()})[0])

    return call
