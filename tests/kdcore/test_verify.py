"""Verification: every container that is honest gives equal bytes; the others say what is wrong."""

import argparse
import collections
import contextlib
import io
import os
import pickle
import random
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.models import build
from kdcore.protocol.requests import VerifyRequest
from kdcore.runtime.errors import UserError
from kdcore.weights.verify import verify
from tests.kdcore.uploads import Room

NAME = "cifar/resnet8"


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path / "work")


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build(NAME, num_classes=5).state_dict()


def build_double(state):
    return {k: t.double() if t.is_floating_point() else t for k, t in state.items()}


class Runs:
    """Unpickling it makes a directory: the canary."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def accepted(room, name=NAME, num_classes=5):
    path = str(room.path / "upload")
    request = VerifyRequest(path=path, architecture=name, num_classes=num_classes)
    info = room.call(verify, request)
    return info, (room.path / "artifacts" / "model.safetensors").read_bytes()


def refused(room, name=NAME, num_classes=5):
    with pytest.raises(UserError) as fault:
        accepted(room, name, num_classes)
    assert fault.value.code == "checkpoint_invalid"
    assert not (room.path / "artifacts" / "model.safetensors").exists()
    return fault.value


def test_every_container_gives_the_same_bytes(tmp_path, state):
    wrapped = {
        "epoch": 240,
        "model": state,
        "accuracy": torch.tensor(71.0),
        "optimizer": {"a": [1]},
    }
    distiller = {f"module.student.{name}": t for name, t in state.items()}
    distiller |= {f"module.teacher.{name}": t + 1 for name, t in state.items()}
    ways = {
        "plain": lambda path: torch.save(state, path),
        "legacy": lambda path: torch.save(state, path, _use_new_zipfile_serialization=False),
        "safetensors": lambda path: save_file(state, path),
        "double": lambda path: torch.save(build_double(state), path),
        "wrapped": lambda path: torch.save(wrapped, path),
        "legacy wrapped": lambda path: torch.save(
            wrapped, path, _use_new_zipfile_serialization=False
        ),
        "parallel": lambda path: torch.save({f"module.{k}": t for k, t in state.items()}, path),
        "compiled": lambda path: torch.save(
            {f"model._orig_mod.{k}": t for k, t in state.items()}, path
        ),
        "distiller": lambda path: torch.save({"model": distiller, "best_acc": 70.0}, path),
        "student": lambda path: torch.save({"state_dict": {"student": dict(state)}}, path),
        "old": lambda path: torch.save(
            {k: t for k, t in state.items() if not k.endswith("num_batches_tracked")}, path
        ),
    }
    seen = {}
    for number, (way, save) in enumerate(ways.items()):
        room = Room(tmp_path / str(number))
        save(room.path / "upload")
        info, seen[way] = accepted(room)
        assert {name: value for name, value in info.items() if value is not None} == {
            "architecture": NAME,
            "num_classes": 5,
            "in_channels": 3,
            "num_params": 77_717,
        }
    assert len(set(seen.values())) == 1, {way: hash(data) for way, data in seen.items()}
    weights = load_file(tmp_path / "0" / "artifacts" / "model.safetensors")
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_half_precision_becomes_float32_and_one_channel_is_seen(room):
    network = build(NAME, num_classes=5, in_channels=1).half()
    torch.save(network.state_dict(), room.path / "upload")
    info, _ = accepted(room)
    assert info["in_channels"] == 1
    weights = load_file(room.path / "artifacts" / "model.safetensors")
    assert weights["conv1.weight"].dtype == torch.float32
    assert weights["bn1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_named_and_not_run(room, tmp_path, protocol):
    canary = tmp_path / "canary"
    (room.path / "upload").write_bytes(pickle.dumps({"a": Runs(canary)}, protocol=protocol))
    fault = refused(room)
    if protocol:
        assert "mkdir" in fault.message
    assert not canary.exists()


@pytest.mark.parametrize("new", [True, False])
def test_a_torch_file_that_runs_code_is_named_and_not_run(room, tmp_path, state, new):
    canary = tmp_path / "canary"
    content = {"model": state, "extra": Runs(canary)}
    torch.save(content, room.path / "upload", _use_new_zipfile_serialization=new)
    fault = refused(room)
    assert "would run posix.mkdir" in fault.message
    assert "state_dict()" in (fault.hint or "")
    assert not canary.exists()


def test_code_in_another_pickle_of_the_file_is_not_run(room, tmp_path, state):
    canary = tmp_path / "canary"
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/other.pkl", pickle.dumps(Runs(canary), protocol=2))
    (room.path / "upload").write_bytes(file.getvalue())
    assert "mkdir" in refused(room).message
    assert not canary.exists()


def test_training_options_and_model_objects_are_explained(tmp_path, state):
    room = Room(tmp_path / "a")
    torch.save({"opt": argparse.Namespace(lr=1), "model": state}, room.path / "upload")
    assert "argparse.Namespace" in refused(room).message
    room = Room(tmp_path / "b")
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), room.path / "upload")
    assert "whole model object" in refused(room).message


@pytest.mark.parametrize("save", [torch.save, lambda s, p: save_file(s, p)])
def test_truncated_anywhere(room, state, save):
    save(state, room.path / "upload")
    whole = (room.path / "upload").read_bytes()
    for cut in (*range(0, 200, 13), *range(200, len(whole), len(whole) // 23), len(whole) - 1):
        (room.path / "upload").write_bytes(whole[:cut])
        assert refused(room).message


def test_legacy_truncated(room, state):
    torch.save(state, room.path / "upload", _use_new_zipfile_serialization=False)
    whole = (room.path / "upload").read_bytes()
    for cut in (1, 2, 15, 40, 100, 1000, len(whole) // 2, len(whole) - 9):
        (room.path / "upload").write_bytes(whole[:cut])
        assert refused(room).message


def test_flipped_bits_end_in_a_verdict(room, state):
    chance = random.Random(3)
    for new in (True, False):
        torch.save(state, room.path / "upload", _use_new_zipfile_serialization=new)
        whole = (room.path / "upload").read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            for _ in range(5):
                data[chance.randrange(6000)] ^= 1 << chance.randrange(8)
            (room.path / "upload").write_bytes(data)
            with contextlib.suppress(UserError):
                accepted(room)


@pytest.mark.parametrize("content", [b"", b"hello", random.Random(0).randbytes(5000)])
def test_what_is_no_checkpoint(room, content):
    (room.path / "upload").write_bytes(content)
    assert "a safetensors file" in refused(room).message


def test_a_foreign_network_gets_a_readable_difference(room):
    torch.save(build("cifar/resnet14", num_classes=5).state_dict(), room.path / "upload")
    fault = refused(room)
    details = {item.name: item.detail for item in fault.items}
    assert details["layer1.1.conv1.weight"] == "is unexpected, of shape (16, 16, 3, 3)"
    assert "cifar/resnet14 of 5 classes" in (fault.hint or "")


def test_missing_and_misshaped_tensors_are_items(room, state):
    other = {name: t for name, t in state.items() if name != "layer2.0.bn1.weight"}
    other["conv1.weight"] = torch.zeros(32, 3, 3, 3)
    torch.save(other, room.path / "upload")
    assert [(i.name, i.detail) for i in refused(room).items] == [
        ("layer2.0.bn1.weight", "is missing; expected (32,)"),
        ("conv1.weight", "expected (16, 3, 3, 3), found (32, 3, 3, 3)"),
    ]


def test_another_number_of_classes_is_said(room, state):
    torch.save(state, room.path / "upload")
    fault = refused(room, num_classes=7)
    assert "of 5 classes, not of 7" in fault.message
    assert "num_classes 5" in (fault.hint or "")


def test_values_and_kinds_that_cannot_be_used_are_all_named(room, state):
    other = dict(state)
    other["conv1.weight"] = state["conv1.weight"].clone()
    other["conv1.weight"][1] = float("nan")
    other["layer1.0.conv1.weight"] = torch.zeros(16, 16, 3, 3, dtype=torch.int64)
    other["layer2.0.conv1.weight"] = torch.zeros(1).expand(32, 16, 3, 3)
    other["fc.weight"] = torch.full((5, 64), 1e300, dtype=torch.float64)
    other["bn1.running_var"] = -torch.ones(16)
    torch.save(other, room.path / "upload")
    details = {item.name: item.detail for item in refused(room).items}
    assert details == {
        "conv1.weight": "has 27 values that are infinite or not a number",
        "layer1.0.conv1.weight": "holds torch.int64, where floats are expected",
        "layer2.0.conv1.weight": "claims more values than the file holds",
        "fc.weight": "has 320 values that are infinite or not a number",
        "bn1.running_var": "has negative variances",
    }


def test_sparse_meta_and_quantized_tensors(tmp_path, state):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to drop quantized tensors
        quantized = torch._make_per_tensor_quantized_tensor(
            torch.zeros(5, 64, dtype=torch.int8), 0.1, 0
        )
    weird = {
        "sparse": torch.eye(5, 64).to_sparse(),
        "meta": torch.empty(5, 64, device="meta"),
        "quantized": quantized,
    }
    for name, tensor in weird.items():
        room = Room(tmp_path / name)
        torch.save({**state, "fc.weight": tensor}, room.path / "upload")
        fault = refused(room)
        assert "plain" in fault.message + fault.items[0].detail


def test_a_compressed_or_doubled_container(tmp_path, state):
    file = io.BytesIO()
    torch.save(state, file)
    room = Room(tmp_path / "a")
    with (
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(room.path / "upload", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert "compressed" in refused(room).message


def test_what_is_no_state_dict(tmp_path):
    deep: dict = {}
    for _ in range(100):
        deep = {"x": deep}
    contents = [
        [torch.zeros(2)],
        {},
        collections.OrderedDict(a=1),
        {3: torch.zeros(2)},
        {"../../etc/x\n": torch.zeros(2)},
        {"state_dict": {"model": {}}},
        deep,
        torch.zeros(3),
    ]
    for number, content in enumerate(contents):
        room = Room(tmp_path / str(number))
        torch.save(content, room.path / "upload")
        fault = refused(room)
        assert all(item.name.isprintable() or "\ufffd" in item.name for item in fault.items)


@pytest.mark.parametrize("new", [True, False])
def test_the_loader_itself_runs_nothing_even_if_the_scan_is_fooled(
    room, tmp_path, state, monkeypatch, new
):
    monkeypatch.setattr("kdcore.weights.pickle_scan._judge", lambda found: None)
    canary = tmp_path / "canary"
    content = {"model": state, "extra": Runs(canary)}
    torch.save(content, room.path / "upload", _use_new_zipfile_serialization=new)
    assert "cannot be opened" in refused(room).message
    assert not canary.exists()
