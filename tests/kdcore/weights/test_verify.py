"""Verification: every valid container gives equal bytes; the others are refused with a reason."""

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
from kdcore.weights.checkpoint_reader import read_checkpoint
from kdcore.weights.verify import verify
from tests.kdcore.uploads import Workdir

NAME = "cifar/resnet8"


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "work")


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build(NAME, num_classes=5).state_dict()


def build_double(state):
    return {k: t.double() if t.is_floating_point() else t for k, t in state.items()}


class CodeInPickle:
    """Unpickling an instance makes a directory: the canary."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def verify_upload(workdir, name=NAME, num_classes=5):
    path = str(workdir.path / "upload")
    request = VerifyRequest(path=path, architecture=name, num_classes=num_classes)
    info = workdir.call(verify, request)
    return info, (workdir.path / "artifacts" / "model.safetensors").read_bytes()


def assert_refused(workdir, name=NAME, num_classes=5):
    """The upload is refused and nothing is written; return the error."""
    with pytest.raises(UserError) as error:
        verify_upload(workdir, name, num_classes)
    assert error.value.code == "checkpoint_invalid"
    assert not (workdir.path / "artifacts" / "model.safetensors").exists()
    return error.value


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
    written = {}
    for number, (way, save) in enumerate(ways.items()):
        workdir = Workdir(tmp_path / str(number))
        save(workdir.path / "upload")
        info, written[way] = verify_upload(workdir)
        assert {name: value for name, value in info.items() if value} == {
            "architecture": NAME,
            "num_classes": 5,
            "in_channels": 3,
            "num_params": 77_717,
            **({"reported_top1": 70.0} if way == "distiller" else {}),
        }
    assert len(set(written.values())) == 1, {way: hash(data) for way, data in written.items()}
    weights = load_file(tmp_path / "0" / "artifacts" / "model.safetensors")
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_half_precision_becomes_float32_and_one_channel_is_detected(workdir):
    network = build(NAME, num_classes=5, in_channels=1).half()
    torch.save(network.state_dict(), workdir.path / "upload")
    info, _ = verify_upload(workdir)
    assert info["in_channels"] == 1
    weights = load_file(workdir.path / "artifacts" / "model.safetensors")
    assert weights["conv1.weight"].dtype == torch.float32
    assert weights["bn1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_is_named_and_not_run(workdir, tmp_path, protocol):
    canary = tmp_path / "canary"
    (workdir.path / "upload").write_bytes(
        pickle.dumps({"a": CodeInPickle(canary)}, protocol=protocol)
    )
    error = assert_refused(workdir)
    if protocol:
        assert "mkdir" in error.message
    assert not canary.exists()


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_torch_file_is_named_and_not_run(workdir, tmp_path, state, new):
    canary = tmp_path / "canary"
    content = {"model": state, "extra": CodeInPickle(canary)}
    torch.save(content, workdir.path / "upload", _use_new_zipfile_serialization=new)
    error = assert_refused(workdir)
    assert "contains code (posix.mkdir)" in error.message
    assert "state_dict()" in (error.hint or "")
    assert not canary.exists()


def test_code_in_another_pickle_of_the_file_is_not_run(workdir, tmp_path, state):
    canary = tmp_path / "canary"
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/other.pkl", pickle.dumps(CodeInPickle(canary), protocol=2))
    (workdir.path / "upload").write_bytes(file.getvalue())
    assert "mkdir" in assert_refused(workdir).message
    assert not canary.exists()


def test_model_object_is_explained(workdir):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), workdir.path / "upload")
    assert "whole model object" in assert_refused(workdir).message


@pytest.mark.parametrize("save", [torch.save, lambda s, p: save_file(s, p)])
def test_truncated_file_is_refused(workdir, state, save):
    save(state, workdir.path / "upload")
    content = (workdir.path / "upload").read_bytes()
    for cut in (
        *range(0, 200, 13),
        *range(200, len(content), len(content) // 23),
        len(content) - 1,
    ):
        (workdir.path / "upload").write_bytes(content[:cut])
        assert assert_refused(workdir).message


def test_truncated_legacy_file_is_refused(workdir, state):
    torch.save(state, workdir.path / "upload", _use_new_zipfile_serialization=False)
    content = (workdir.path / "upload").read_bytes()
    for cut in (1, 2, 15, 40, 100, 1000, len(content) // 2, len(content) - 9):
        (workdir.path / "upload").write_bytes(content[:cut])
        assert assert_refused(workdir).message


def test_flipped_bits_raise_only_user_errors(workdir, state):
    chance = random.Random(3)
    for new in (True, False):
        torch.save(state, workdir.path / "upload", _use_new_zipfile_serialization=new)
        content = (workdir.path / "upload").read_bytes()
        for _ in range(40):
            data = bytearray(content)
            for _ in range(5):
                data[chance.randrange(6000)] ^= 1 << chance.randrange(8)
            (workdir.path / "upload").write_bytes(data)
            with contextlib.suppress(UserError):
                verify_upload(workdir)


@pytest.mark.parametrize("content", [b"", b"hello", random.Random(0).randbytes(5000)])
def test_file_that_is_no_checkpoint_is_refused(workdir, content):
    (workdir.path / "upload").write_bytes(content)
    assert "a safetensors file" in assert_refused(workdir).message


def test_checkpoint_of_another_network_is_compared(workdir):
    torch.save(build("cifar/resnet14", num_classes=5).state_dict(), workdir.path / "upload")
    error = assert_refused(workdir)
    details = {item.name: item.detail for item in error.items}
    assert details["layer1.1.conv1.weight"] == "is unexpected, of shape (16, 16, 3, 3)"
    assert "cifar/resnet14 of 5 classes" in (error.hint or "")


def test_missing_and_misshaped_tensors_are_named(workdir, state):
    other = {name: t for name, t in state.items() if name != "layer2.0.bn1.weight"}
    other["conv1.weight"] = torch.zeros(32, 3, 3, 3)
    torch.save(other, workdir.path / "upload")
    assert [(i.name, i.detail) for i in assert_refused(workdir).items] == [
        ("layer2.0.bn1.weight", "is missing; expected (32,)"),
        ("conv1.weight", "expected (16, 3, 3, 3), found (32, 3, 3, 3)"),
    ]


def test_another_number_of_classes_is_explained(workdir, state):
    torch.save(state, workdir.path / "upload")
    error = assert_refused(workdir, num_classes=7)
    assert "of 5 classes, not of 7" in error.message
    assert "set num_classes to 5" in (error.hint or "")


def test_every_unusable_tensor_is_named(workdir, state):
    other = dict(state)
    other["conv1.weight"] = state["conv1.weight"].clone()
    other["conv1.weight"][1] = float("nan")
    other["layer1.0.conv1.weight"] = torch.zeros(16, 16, 3, 3, dtype=torch.int64)
    other["layer2.0.conv1.weight"] = torch.zeros(1).expand(32, 16, 3, 3)
    other["fc.weight"] = torch.full((5, 64), 1e300, dtype=torch.float64)
    other["bn1.running_var"] = -torch.ones(16)
    torch.save(other, workdir.path / "upload")
    details = {item.name: item.detail for item in assert_refused(workdir).items}
    assert details == {
        "conv1.weight": "has 27 values that are infinite or not a number",
        "layer1.0.conv1.weight": "has type torch.int64; floats are expected",
        "layer2.0.conv1.weight": "has more values than the file contains",
        "fc.weight": "has 320 values that are infinite or not a number",
        "bn1.running_var": "has negative variances",
    }


def test_sparse_meta_and_quantized_tensors_are_refused(tmp_path, state):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to drop quantized tensors
        quantized = torch._make_per_tensor_quantized_tensor(
            torch.zeros(5, 64, dtype=torch.int8), 0.1, 0
        )
    tensors = {
        "sparse": torch.eye(5, 64).to_sparse(),
        "meta": torch.empty(5, 64, device="meta"),
        "quantized": quantized,
    }
    for name, tensor in tensors.items():
        workdir = Workdir(tmp_path / name)
        torch.save({**state, "fc.weight": tensor}, workdir.path / "upload")
        error = assert_refused(workdir)
        assert "plain" in error.message + error.items[0].detail


def test_compressed_container_is_refused(tmp_path, state):
    file = io.BytesIO()
    torch.save(state, file)
    workdir = Workdir(tmp_path / "a")
    with (
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(workdir.path / "upload", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert "compressed" in assert_refused(workdir).message


def test_content_that_is_no_state_dict_is_refused(tmp_path):
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
        workdir = Workdir(tmp_path / str(number))
        torch.save(content, workdir.path / "upload")
        error = assert_refused(workdir)
        assert all(item.name.isprintable() or "\ufffd" in item.name for item in error.items)


@pytest.mark.parametrize("new", [True, False])
def test_loader_runs_no_code_without_the_scan(workdir, tmp_path, state, new):
    canary = tmp_path / "canary"
    content = {"model": state, "extra": CodeInPickle(canary)}
    torch.save(content, workdir.path / "upload", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="cannot be opened"):
        read_checkpoint(workdir.path / "upload", scan=False)
    assert not canary.exists()
