"""Programs of torch.export, call by call: arguments, checked operators, changes of tensors."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcore.models.programs.graph_network import GraphNetwork
from kdcore.models.programs.operator_calls import find_operator, read_call
from kdcore.runtime.errors import UserError
from kdcore.weights.program_upload import find_program, scan_program
from tests.kdcore.programs import CLASSES, SIDE, SmallNetwork, change_program, program_bytes

GRAPH = "models/model.json"
ATEN = "torch.ops.aten."
NAME = "net.pt2"


def load_network(folder: Path, data: bytes) -> GraphNetwork:
    path = folder / NAME
    path.write_bytes(data)
    network = GraphNetwork.from_file(path, NAME)
    network.select_logits(SIDE)
    return network


def refuse_network(folder: Path, data: bytes) -> UserError:
    with pytest.raises(UserError) as error:
        load_network(folder, data)
    assert error.value.code == "checkpoint_invalid"
    return error.value


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


class AttentionNetwork(SmallNetwork):
    def forward(self, images: Tensor) -> Tensor:
        tokens = self.norm(self.first(images)).flatten(2).transpose(1, 2)
        tokens = tokens.contiguous().unsqueeze(1)
        attended = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(nn.functional.pad(attended.mean((1, 2)), (0, 2)))


def decompose(program: Any) -> Any:
    return program.run_decompositions()


@pytest.fixture(scope="module")
def program() -> bytes:
    return program_bytes(AttentionNetwork().eval())


@pytest.fixture(scope="module")
def core_program() -> bytes:
    return program_bytes(AttentionNetwork().eval(), change=decompose)


def change_call(data: bytes, operator: str, change: Callable[[Any], None]) -> bytes:
    """A program with its only call of an operator changed."""

    def change_graph(program: Any) -> Any:
        nodes = program["graph_module"]["graph"]["nodes"]
        (node,) = [node for node in nodes if node["target"] == ATEN + operator]
        change(node)
        return program

    return change_program(data, {GRAPH: change_graph})


def set_argument(name: str, value: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        (argument,) = [entry for entry in node["inputs"] if entry["name"] == name]
        argument["arg"] = value

    return change


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"as_bool": True}, "training mode"),
        ({"as_sym_bool": {"as_bool": True}}, "training mode"),
        ({"as_sym_bool": {"as_name": "x"}}, "training mode"),
        ({"as_none": True}, "training mode"),
        ({"as_int": 1}, "the operator takes bool"),
        ({"as_float": 1.0}, "the operator takes bool"),
        ({"as_string": "x"}, "the operator takes bool"),
        ({"as_ints": []}, "the operator takes bool"),
        ({"as_bool": 1}, "another structure"),
    ],
)
def test_flag_of_training_is_a_plain_false(tmp_path, program, value, words):
    changed = change_call(program, "batch_norm.default", set_argument("training", value))
    assert words in refuse_network(tmp_path, changed).message


def test_probability_of_dropout_is_0(tmp_path):
    def drop(node: Any) -> None:
        node["inputs"].append({"name": "dropout_p", "arg": {"as_int": 1}, "kind": 2})

    program = program_bytes(AttentionNetwork().eval())
    changed = change_call(program, "scaled_dot_product_attention.default", drop)
    assert "training mode" in refuse_network(tmp_path, changed).message


def test_decomposed_program_has_the_logits_of_its_network(tmp_path, core_program):
    assert b"_native_batch_norm_legit_no_training" in core_program
    network = load_network(tmp_path, core_program)
    with torch.no_grad():
        expected = AttentionNetwork().eval()(images())
        assert torch.allclose(network(images()), expected, atol=1e-6)


@pytest.mark.parametrize("tensor", ["running_mean", "running_var", "weight", "bias"])
def test_short_statistics_are_refused_before_a_kernel_reads_them(tmp_path, core_program, tensor):
    def shorten(config: Any) -> Any:
        if f"norm.{tensor}" in config["config"]:
            config["config"][f"norm.{tensor}"]["tensor_meta"]["sizes"] = [{"as_int": 1}]
        return config

    weights = "data/weights/model_weights_config.json"
    changed = change_program(core_program, {weights: shorten})
    with pytest.raises(RuntimeError, match="should contain 4 elements"):
        load_network(tmp_path, changed)


def test_short_keys_are_refused_before_a_kernel_reads_them():
    def tensor(name: str) -> Any:
        return {"name": name, "arg": {"as_tensor": {"name": name}}}

    inputs = [tensor(name) for name in ("query", "key", "value")]
    target = f"{ATEN}scaled_dot_product_attention.default"
    call = read_call({"target": target, "inputs": inputs, "outputs": []})
    query, long = torch.ones(1, 1, 8, 4), torch.ones(1, 1, 64, 4)
    for key, value in ((query, long), (long, query), (long[..., :2], long)):
        with pytest.raises(UserError, match="do not fit"):
            call.function(query=query, key=key, value=value)


@pytest.mark.parametrize(
    "operator",
    [
        "_native_batch_norm_legit.default",
        "_native_batch_norm_legit.no_stats",
        "native_batch_norm.default",
        "_scaled_dot_product_flash_attention_for_cpu.default",
        "mul_.t",
        "copy.t",
        "_fused_dropout.default",
    ],
)
def test_operators_that_train_or_have_no_tensors_are_not_run(operator):
    packet = getattr(torch.ops.aten, operator.partition(".")[0])
    assert operator.partition(".")[2] in packet.overloads()
    assert find_operator(ATEN + operator) is None


class CountingNetwork(SmallNetwork):
    """Changes a buffer through a view, which torch.export does not name as a mutation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: Tensor) -> Any:
        self.calls.view(1, 1).add_(1.0)
        return super().forward(images) * self.calls


class InstanceNetwork(SmallNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)


class InputNetwork(SmallNetwork):
    """Normalizes its input in place, with a constant."""

    def forward(self, images: Tensor) -> Any:
        mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
        return super().forward(images.sub_(mean).mul_(4.0))


def test_network_that_changes_itself_is_refused(tmp_path):
    error = refuse_network(tmp_path, program_bytes(CountingNetwork().eval()))
    assert "changes its own tensor calls" in error.message
    assert "aten.add_" in error.message
    error = refuse_network(tmp_path, program_bytes(InstanceNetwork().train()))
    assert "training mode" in error.message


def test_instance_norm_without_statistics_is_run(tmp_path):
    network = InstanceNetwork()
    network.norm = nn.InstanceNorm2d(4)
    loaded = load_network(tmp_path, program_bytes(network.eval()))
    with torch.no_grad():
        assert torch.allclose(loaded(images()), network(images()), atol=1e-6)


def test_network_that_changes_its_input_leaves_the_images_of_the_caller(tmp_path):
    loaded = load_network(tmp_path, program_bytes(InputNetwork().eval()))
    batch = images()
    with torch.no_grad():
        logits = loaded(batch)
        assert torch.equal(batch, images())
        assert torch.allclose(logits, InputNetwork().eval()(images()), atol=1e-6)
    assert logits.shape == (4, CLASSES)
    traced = torch.export.export(loaded, (batch,), strict=False).module()
    with torch.no_grad():
        assert torch.allclose(traced(images()), logits, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("_operator.pow", (9, 10**8)), ("_operator.mul", (2**40, 2**40)), ("_operator.pow", (9, 60))],
)
def test_sizes_have_64_bits(name, numbers):
    call = read_call(
        {
            "target": name,
            "inputs": [{"name": "", "arg": {"as_int": number}} for number in numbers],
            "outputs": [],
        }
    )
    with pytest.raises(UserError, match="computes a size"):
        call.function(*call.args)


@pytest.mark.parametrize("value", [{"as_string": "%0900000000d"}, {"as_ints": [1]}])
def test_sizes_are_computed_from_numbers_alone(value):
    inputs = [{"name": "a", "arg": value}, {"name": "b", "arg": {"as_int": 1}}]
    with pytest.raises(UserError, match="computes sizes with arguments of the kind"):
        read_call({"target": "_operator.mod", "inputs": inputs, "outputs": []})


def test_examples_are_scanned_and_not_loaded(tmp_path, program):
    path = tmp_path / NAME
    examples = {"data/sample_inputs/model.pt": pickle.dumps(["torch.load refuses this"], 2)}
    path.write_bytes(change_program(program, examples))
    upload = find_program(path, NAME, tmp_path, None)
    assert upload is not None
    scan_program(upload, tmp_path)
