"""Networks from files: which become models, and which files are refused, with their reason."""

import gzip
import pickle
import signal
import struct
import threading
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from kdcore.runtime.limits import CpuTimeExceededError
from tests.helpers import wait_until
from tests.kdcore.programs import (
    CLASSES,
    SIDE,
    SmallNetwork,
    change_program,
    external_model,
    external_tensor,
    mean_node,
    onnx_model,
    program_bytes,
    refuse_file,
    verify_file,
    zip_files,
)

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def program() -> bytes:
    return program_bytes(SmallNetwork().eval())


def images(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", [None, "exported_program"])
def test_program_is_recognized_and_gives_its_logits(tmp_path, program, architecture):
    info, network = verify_file(tmp_path, program, architecture=architecture)
    expected = SmallNetwork().eval()
    assert {name: info[name] for name in ("architecture", "num_classes", "in_channels")} == {
        "architecture": "exported_program",
        "num_classes": CLASSES,
        "in_channels": 3,
    }
    assert (info["input_size"], info["normalization"]) == (SIDE, None)
    assert info["num_params"] == sum(p.numel() for p in expected.parameters())
    assert any("so architecture is" in warning for warning in info["warnings"]) == (
        architecture is None
    )
    with torch.no_grad():
        assert torch.equal(network(images(5)), expected(images(5)))
    assert network.count_macs(SIDE) == 4 * 27 * 64 + 6 * 36 * 9 + 6 * CLASSES


def test_fixed_batch_is_run_in_padded_pieces(tmp_path):
    info, network = verify_file(tmp_path, program_bytes(SmallNetwork().eval(), batch=4))
    assert any("batches of 4 images" in warning for warning in info["warnings"])
    with torch.no_grad():
        for count in (1, 4, 9):
            expected = SmallNetwork().eval()(images(count))
            assert torch.allclose(network(images(count)), expected, atol=1e-6), count


def test_outputs_have_the_names_of_the_dict(tmp_path):
    network = SmallNetwork(with_maps=True).eval()
    info, program_network = verify_file(tmp_path, program_bytes(network))
    assert info["outputs"] == {"maps.a": [4, 8, 8], "maps.b": [6, 3, 3]}
    with torch.no_grad():
        logits, deep = program_network.outputs(images(3), ("logits", "maps.b"))
        expected = network(images(3))
    assert torch.equal(logits, expected["logits"])
    assert torch.equal(deep, expected["maps"]["b"])


def test_onnx_is_recognized_with_its_data_in_a_zip(tmp_path):
    data = struct.pack("<3f", 1, 2, 3)
    packed = zip_files({"x/net.onnx": external_model("net.data"), "x/net.data": data})
    info, network = verify_file(tmp_path, packed, filename="net.zip")
    assert (info["architecture"], info["num_params"]) == ("onnx", None)
    expected = images(2).mean((2, 3)) + torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(network(images(2)), expected, atol=1e-6)
    assert network.count_macs(SIDE) is None
    plain = onnx_model(batch=4).SerializeToString()
    for upload, name in ((plain, "best"), (gzip.compress(plain), "net.onnx.gz")):
        _, network = verify_file(tmp_path, upload, filename=name)
        assert torch.allclose(network(images(9)), images(9).mean((2, 3)), atol=1e-6)


class CallOnLoad:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch canary",)


def _rename_operator(program: Any) -> Any:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.mine.conv.default"
    return program


def _read_files(program: Any) -> Any:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"
    return program


def _call_python(program: Any) -> Any:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"
    return program


def _evaluate_text(program: Any) -> Any:
    graph = program["graph_module"]["graph"]
    size = graph["tensor_values"][graph["inputs"][-1]["as_tensor"]["name"]]["sizes"][0]
    size["as_expr"]["expr_str"] = "__import__('os').system('touch canary')"
    return program


def _make_huge(config: Any) -> Any:
    config["config"]["head.weight"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}, {"as_int": 6}]
    return config


def _pickle_weight(config: Any) -> Any:
    config["config"]["head.weight"]["use_pickle"] = True
    return config


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "pickle in the examples": (
        {"data/sample_inputs/model.pt": pickle.dumps(CallOnLoad(), 2)},
        "contains code (posix.system)",
    ),
    "custom operator": ({GRAPH: _rename_operator}, "the operator torch.ops.mine.conv.default"),
    "operator that opens files": ({GRAPH: _read_files}, "torch.ops.aten.from_file.default"),
    "function that is not an operator": ({GRAPH: _call_python}, "the operator torch.hub.load"),
    "code in a size": ({GRAPH: _evaluate_text}, "neither fixed nor of any size"),
    "huge tensor": ({WEIGHTS: _make_huge}, "more than the file contains"),
    "pickled tensor": ({WEIGHTS: _pickle_weight}, "a pickle that is never loaded"),
    "compiled code": ({"data/aotinductor/model/a.so": b"\x7fELF"}, "compiled by AOTInductor"),
    "not a graph": ({GRAPH: b'{"graph_module": 3}'}, "another structure"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_program_is_refused_and_nothing_runs(tmp_path, monkeypatch, program, kind):
    monkeypatch.chdir(tmp_path)
    changes, words = HOSTILE[kind]
    error = refuse_file(tmp_path, change_program(program, changes))
    assert words in error.message
    assert error.fix_fields == ()
    assert not list(tmp_path.rglob("canary"))


def test_program_in_training_mode_is_refused(tmp_path):
    error = refuse_file(tmp_path, program_bytes(SmallNetwork().train()))
    assert "training mode" in error.message
    assert "model.eval()" in str(error.hint)


class TwoInputs(nn.Module):
    def forward(self, images: Tensor, other: Tensor) -> Tensor:
        return images.mean((2, 3)) + other


def test_other_inputs_and_requests_are_refused(tmp_path, program):
    inputs = (torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, 3))
    assert "2 inputs" in refuse_file(tmp_path, program_bytes(TwoInputs(), inputs=inputs)).message
    for fields, words in (
        ({"architecture": "cifar/resnet8"}, "contains its network"),
        ({"num_classes": 7}, "has 3 classes, not 7"),
        ({"input_size": 16}, "images of 8 pixels only"),
        ({"key_map": (("a", "b"),)}, "key_map is for the tensors"),
    ):
        error = refuse_file(tmp_path, program, **fields)
        assert words in error.message
        assert error.fix_fields == tuple(fields)
    error = refuse_file(tmp_path, b"PK\x05\x06" + bytes(18), architecture="exported_program")
    assert "is not a program of torch.export" in error.message


def _loop(count: int) -> Any:
    """A network with a loop of ``count`` steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    trips = helper.make_tensor("trips", TensorProto.INT64, [], [count])
    go = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["trips", "yes", "mean"], ["logits"], body=body)
    return onnx_model(mean_node(), loop, weights=(trips, go))


def _custom() -> Any:
    node = helper.make_node("Evil", ["image"], ["logits"], domain="mine")
    return onnx_model(node, opsets=(helper.make_opsetid("mine", 1),))


def _huge() -> Any:
    weight = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[2**40, CLASSES])
    return onnx_model(
        mean_node(), helper.make_node("Add", ["mean", "bias"], ["logits"]), weights=(weight,)
    )


def _hidden_data() -> Any:
    value = helper.make_node("Constant", [], ["bias"], value=external_tensor("/etc/passwd"))
    return onnx_model(value, mean_node(), helper.make_node("Add", ["mean", "bias"], ["logits"]))


def _two_matrices() -> Any:
    return onnx_model(*map(mean_node, "ab"), outputs={"a": ["batch", 3], "b": ["batch", 3]})


REFUSED_ONNX: dict[str, tuple[Any, str]] = {
    "custom operator": (_custom, "the operator mine::Evil"),
    "data outside the upload": (lambda: external_model("../../etc/passwd"), "../../etc/passwd"),
    "data in an attribute": (_hidden_data, "/etc/passwd"),
    "data that is missing": (lambda: external_model("net.data"), "net.data, which is not in"),
    "huge tensor": (_huge, "cannot run this network"),
    "two candidates for the logits": (_two_matrices, "a [2, 3], b [2, 3]"),
    "the format of onnxruntime": (lambda: b"\x08\0\0\0ORTM" + bytes(40), "onnxruntime's format"),
}


@pytest.mark.parametrize("kind", REFUSED_ONNX)
def test_unsuitable_onnx_is_refused(tmp_path, kind):
    make, words = REFUSED_ONNX[kind]
    model = make()
    data = model if isinstance(model, bytes) else model.SerializeToString()
    assert words in refuse_file(tmp_path, data, filename="net.onnx").message


def test_finite_loop_is_run(tmp_path):
    _, network = verify_file(tmp_path, _loop(2).SerializeToString(), filename="net.onnx")
    expected = images(2).mean((2, 3)).sin().sin()
    assert torch.allclose(network(images(2)), expected, atol=1e-6)


def test_endless_loop_ends_with_the_limit_of_processor_time(tmp_path):
    def exceed(*_: object) -> None:
        raise CpuTimeExceededError

    threads = threading.active_count()
    previous = signal.signal(signal.SIGALRM, exceed)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(CpuTimeExceededError):
            verify_file(tmp_path, _loop(2**60).SerializeToString(), filename="net.onnx")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    wait_until(lambda: threading.active_count() <= threads, 60, "onnxruntime stops")
