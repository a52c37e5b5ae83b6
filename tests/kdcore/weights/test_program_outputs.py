"""Networks from files that give no logits of one image: training mode, probabilities, the batch."""

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from tests.kdcore.programs import mean_node, onnx_model, program_bytes, refuse_file, verify_file


def _head(*nodes: Any, weights: tuple[Any, ...] = (), **fields: Any) -> Any:
    return onnx_model(mean_node(), *nodes, weights=weights, **fields)


def _dropout(training: Any) -> Any:
    """A network with dropout; ``training`` makes the node of the flag, or is the constant."""
    constants = [helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.5])]
    nodes = [training] if not isinstance(training, bool) else []
    if not nodes:
        constants.append(helper.make_tensor("training", TensorProto.BOOL, [], [training]))
    dropout = helper.make_node("Dropout", ["mean", "ratio", "training"], ["logits"])
    return _head(*nodes, dropout, weights=tuple(constants))


def _hidden_dropout() -> Any:
    """Dropout in a function, whose caller gives the flag."""
    dropout = helper.make_node("Dropout", ["x", "ratio", "flag"], ["y"])
    opsets = [helper.make_opsetid("", 13)]
    function = helper.make_function(
        "mine", "Drop", ["x", "ratio", "flag"], ["y"], [dropout], opsets
    )
    call = helper.make_node("Drop", ["mean", "ratio", "training"], ["logits"], domain="mine")
    model = _dropout(training=False)
    model.graph.node[-1].CopyFrom(call)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    return model


def _norm(**mode: int) -> Any:
    ones = [helper.make_tensor(name, TensorProto.FLOAT, [3], [1, 1, 1]) for name in "abcd"]
    outputs = ["logits", "m", "v"] if mode else ["logits"]
    norm = helper.make_node("BatchNormalization", ["mean", *"abcd"], outputs, **mode)
    model = _head(norm, weights=tuple(ones))
    model.opset_import[0].version = 14 if mode else 13
    return model


def _replacing_function() -> Any:
    opsets = [helper.make_opsetid("", 13)]
    identity = helper.make_node("Identity", ["x"], ["y"])
    node = helper.make_node("Gelu", ["mean"], ["logits"], domain="com.microsoft")
    model = _head(node, opsets=(helper.make_opsetid("com.microsoft", 1),))
    model.functions.append(
        helper.make_function("com.microsoft", "Gelu", ["x"], ["y"], [identity], opsets)
    )
    return model


def _in_branch(node: Any) -> Any:
    """A network whose ``node`` is in a branch that is not run."""
    branches = {
        name: helper.make_graph(
            [inner], name, [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        )
        for name, inner in (
            ("then_branch", node),
            ("else_branch", helper.make_node("Identity", ["mean"], ["y"])),
        )
    }
    no = helper.make_tensor("no", TensorProto.BOOL, [], [False])
    return _head(helper.make_node("If", ["no"], ["logits"], **branches), weights=(no,))


def _minus_batch_mean(**fields: Any) -> Any:
    batch_mean = helper.make_node("ReduceMean", ["mean"], ["all"], axes=[0])
    return _head(batch_mean, helper.make_node("Sub", ["mean", "all"], ["logits"]), **fields)


REFUSED: dict[str, tuple[Any, str]] = {
    "random numbers": (
        lambda: _head(helper.make_node("RandomNormalLike", ["mean"], ["logits"])),
        "the operator RandomNormalLike",
    ),
    "random numbers in a branch": (
        lambda: _in_branch(helper.make_node("Bernoulli", ["mean"], ["y"])),
        "the operator Bernoulli",
    ),
    "dropout in training mode": (lambda: _dropout(training=True), "the layer Dropout in training"),
    "dropout with a computed flag": (
        lambda: _dropout(helper.make_node("Cast", ["ratio"], ["training"], to=TensorProto.BOOL)),
        "the layer Dropout in training",
    ),
    "dropout in a function": (_hidden_dropout, "the layer Dropout in training"),
    "batch norm in training mode": (
        lambda: _norm(training_mode=1),
        "the layer BatchNormalization in training",
    ),
    "function of a runtime's name": (_replacing_function, "the function com.microsoft::Gelu"),
    "probabilities": (
        lambda: _head(helper.make_node("Softmax", ["mean"], ["logits"], axis=1)),
        "holds probabilities",
    ),
    "mean of the batch": (_minus_batch_mean, "depends on the other images"),
    "mean of a fixed batch": (lambda: _minus_batch_mean(batch=5), "depends on the other images"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_onnx_without_logits_of_one_image_is_refused(tmp_path, kind):
    make, words = REFUSED[kind]
    assert words in refuse_file(tmp_path, make().SerializeToString(), filename="net.onnx").message


def test_layers_in_eval_mode_are_run(tmp_path):
    log_softmax = _head(helper.make_node("LogSoftmax", ["mean"], ["logits"], axis=1))
    for model in (_dropout(training=False), _norm(), log_softmax, onnx_model(batch=1)):
        verify_file(tmp_path, model.SerializeToString(), filename="net.onnx")


def test_int8_with_the_scale_of_a_batch_is_run(tmp_path):
    source, quantized = tmp_path / "a.onnx", tmp_path / "b.onnx"
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], [1, 2, 3, -4, 5, 6, 7, -8, 9])
    onnx.save(
        _head(helper.make_node("MatMul", ["mean", "w"], ["logits"]), weights=(weight,)), source
    )
    quantize_dynamic(source, quantized)
    assert "DynamicQuantizeLinear" in {node.op_type for node in onnx.load(quantized).graph.node}
    verify_file(tmp_path, quantized.read_bytes(), filename="net.onnx")


class Doubtful(nn.Module):
    """Logits, or what is none: probabilities, or values that depend on the batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Any:
        values = images.mean((2, 3))
        if self.kind == "probabilities":
            return {"raw": values, "logits": values.softmax(1)}
        return values - values.mean(0)


def test_program_without_logits_of_one_image_is_refused(tmp_path):
    error = refuse_file(tmp_path, program_bytes(Doubtful("probabilities")))
    assert "the output logits holds probabilities" in error.message
    assert error.hint == "export the network without its softmax"
    error = refuse_file(tmp_path, program_bytes(Doubtful("batch")))
    assert "depends on the other images of the batch" in error.message
