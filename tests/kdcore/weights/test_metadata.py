"""What trainings save beside the weights is never imported and never called."""

import argparse
import builtins
import collections
import io
import os
import pathlib
import pickle
import runpy
import subprocess
import sys
import types
import zipfile
from functools import partial

import numpy as np
import pytest
import torch

from kdcore.weights import pickle_scan
from tests.kdcore.weights.checkpoint_files import (
    assert_equal_weights,
    network_state,
    refuse_file,
    torch_bytes,
    verify_file,
)

STATE = network_state()


class EasyDict(dict):
    """A dict of a user's project."""


class Settings:
    """A class of a user's project, which must never be imported."""

    def __init__(self):
        self.lr = 0.1

    def __setstate__(self, state):
        raise AssertionError("an object of the checkpoint was rebuilt")


def training_state():
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    return {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}


METADATA = {
    "a whole training": training_state(),
    "numpy scalar": {"best_acc": np.float64(71.2), "epoch": np.int64(3)},
    "numpy array": {"history": np.arange(4)},
    "options": {"args": argparse.Namespace(lr=0.1, path=pathlib.Path("/data"))},
    "set and bytearray": {"classes": {"a", "b"}, "key": bytearray(b"ab"), "z": complex(1, 2)},
    "counters": {
        "seen": collections.Counter("abca"),
        "sums": collections.defaultdict(float, {"a": 1.0}),
    },
    "dict subclass": {"config": EasyDict(a=1, b=EasyDict(c=2))},
    "object": {"settings": Settings(), "namespace": types.SimpleNamespace(a=1)},
    "partial": {"hparams": {"optimizer": partial(torch.optim.SGD, lr=0.1)}},
    "module": {"hyper_parameters": {"criterion": torch.nn.CrossEntropyLoss()}},
    "size and dtype": {"shape": torch.Size([1, 2]), "dtype": torch.float16, "device": "cpu"},
}


@pytest.mark.parametrize(
    ("kind", "new"),
    # The old format stores the source of modules, which torch does not read.
    [(kind, new) for kind in METADATA for new in (True, False) if new or kind != "module"],
)
def test_metadata_do_not_refuse_a_checkpoint(tmp_path, kind, new):
    data = torch_bytes({"model": STATE} | METADATA[kind], _use_new_zipfile_serialization=new)
    assert_equal_weights(verify_file(tmp_path, data).tensors, STATE)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"class_names": list("edcba")}, list("edcba")),
        ({"meta": {"CLASSES": tuple("abcde")}}, list("abcde")),
        ({"class_to_idx": {"b": 1, "a": 0, "c": 2, "e": 4, "d": 3}}, list("abcde")),
        ({"idx_to_class": dict(enumerate("abcde"))}, list("abcde")),
        ({"classes": list("abcd")}, None),
        ({"classes": list("aabcd")}, None),
        ({"class_to_idx": {"b": 1, "a": 1, "c": 2, "e": 4, "d": 3}}, None),
        ({"classes": [1, 2, 3, 4, 5]}, None),
        ({"classes": ["a", "b", "c", "d", "e\n"]}, list("abcde")),
        ({"classes": ["a", "b", "c", "d", "e\x00"]}, None),
    ],
)
def test_class_names_of_the_metadata_are_read(tmp_path, metadata, expected):
    info, _ = verify_file(tmp_path, {"model": STATE, **metadata})
    assert (info["class_names"], len(info["warnings"])) == (expected, expected is None)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"class_to_idx": dict(zip("abcde", range(1, 6), strict=True))}, "are 1 to 5, not 0 to 4"),
        ({"class_to_idx": {"a": 0, "b": 0}}, "not have one index for each class"),
        ({"class_names": list("abcd")}, "has 4 names, and the network 5 classes"),
        (
            {"classes": np.array(list("abcde"))},
            "classes of the checkpoint is not read: it is of type",
        ),
        (
            {"class_names": list("abcde"), "args": {"classes": list("edcba")}},
            "class_names and classes of the checkpoint differ: a, b, c and 2 more, and e, d, c",
        ),
    ],
)
def test_unused_class_names_are_a_warning_with_the_reason(tmp_path, metadata, words):
    (warning,) = verify_file(tmp_path, {"model": STATE, **metadata}).info["warnings"]
    assert words in warning


def test_number_of_classes_is_no_class_name(tmp_path):
    info = verify_file(tmp_path, {"model": STATE, "args": {"classes": 5}, "classes": None}).info
    assert (info["class_names"], info["warnings"]) == (None, [])


class Call:
    """Unpickling an instance calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "os": (os.mkdir,),
    "os.path": (os.system,),
    "subprocess": (subprocess.check_call,),
    "subprocess.Popen": (subprocess.Popen,),
    "sys": (sys.setrecursionlimit,),
    "runpy": (runpy.run_path,),
    "eval": (builtins.eval,),
    "exec": (builtins.exec,),
    "getattr": (builtins.getattr, os, "mkdir"),
    "__import__": (builtins.__import__,),
    "open": (builtins.open,),
    "torch.load": (torch.load,),
    "torch.hub": (torch.hub.load_state_dict_from_url,),
}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"best_acc1": 76.5}, 76.5),
        ({"best_acc1": torch.tensor(0.5)}, 50.0),
        ({"best_acc": float("nan"), "acc1": 91}, 91.0),
        ({"best_acc1": "high", "epoch": 90}, None),
    ],
)
def test_accuracy_of_the_metadata_is_read(tmp_path, metadata, expected):
    info = verify_file(tmp_path, {"model": STATE, **metadata}).info
    assert info["reported_top1"] == expected


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("new", [True, False])
def test_code_is_refused_wherever_it_is(tmp_path, name, new):
    function, *arguments = CALLS[name]
    canary = tmp_path / "canary"
    call = Call(function, *([] if arguments else [str(canary)]))
    for contents in (
        {"model": STATE, "extra": {"deep": [({"er": call},)]}},
        {**STATE, "conv1.weight": call},
        {"model": STATE, "call": Call(collections.OrderedDict, call)},
    ):
        data = torch_bytes(contents, _use_new_zipfile_serialization=new)
        error = refuse_file(tmp_path / "uploads", data)
        assert "contains code" in error.message
        assert error.fix_fields == ()
    assert not canary.exists()


def _pickle_upload(opcodes):
    """A zip of torch whose pickle is ``opcodes``."""
    data = torch_bytes(STATE)
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, opcodes if member.endswith("data.pkl") else content)
    return target.getvalue()


HAND_WRITTEN = {
    "a global by memo": b"\x80\x02cposix\nsystem\nq\x000h\x00X\x01\x00\x00\x00a\x85R.",
    "a name in two strings": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01a\x85R.",
    "a name by memo": b"\x80\x04\x8c\x06system\x94\x8c\x05posix\x94h\x01h\x00\x93\x8c\x01a\x85R.",
    "a state for a module": b"\x80\x02cos\nenviron\n}X\x01\x00\x00\x00aX\x01\x00\x00\x00bsb.",
    "an attribute of a harmless module": b"\x80\x02cpathlib\nos.system\nX\x01\x00\x00\x00a\x85R.",
    "a new object of a class": b"\x80\x02csubprocess\nPopen\nX\x01\x00\x00\x00a\x85\x81.",
    "the name of Python 2": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x00a\x85R.",
    "an instance": b"(S'echo'\nios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "spaces in a name": b"\x80\x02cos system\nx\n.",
}


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_hand_written_pickles_are_refused(tmp_path, kind):
    error = refuse_file(tmp_path, _pickle_upload(HAND_WRITTEN[kind]))
    assert "contains code" in error.message


def test_call_of_a_placeholder_returns_a_placeholder(tmp_path):
    # The result of a call, called again, and given a state, items and attributes.
    data = _pickle_upload(
        b"\x80\x02}X\x01\x00\x00\x00acfoo\nbar\n)R)R}b(K\x01ecfoo\nbaz\n)\x81}bX\x01\x00\x00\x00b."
    )
    assert refuse_file(tmp_path, data).message


def test_module_is_refused_with_two_lines_that_make_a_state_dict(tmp_path):
    error = refuse_file(tmp_path, {"epoch": 3, "model": torch.nn.Sequential(torch.nn.Linear(2, 2))})
    assert "torch.nn.modules.container.Sequential" in error.message
    old = torch_bytes({"model": torch.nn.Linear(2, 2)}, _use_new_zipfile_serialization=False)
    assert "whole model object" in refuse_file(tmp_path, old).message
    lines = (error.hint or "").splitlines()[-2:]
    assert lines == [
        "model = torch.load(\"best.pt\", weights_only=False)['model']",
        'torch.save(model.state_dict(), "state_dict.pt")',
    ]


def test_newer_pickle_protocol_is_named(tmp_path):
    error = refuse_file(tmp_path, torch_bytes(STATE, pickle_protocol=4))
    assert "pickle_protocol=4" in error.message
    plain = pickle.dumps({"a": 1}, protocol=4)
    assert "torch.save did not write" in refuse_file(tmp_path, plain).message


def test_no_message_has_a_part_of_a_librarys_sentence(tmp_path):
    data = torch_bytes({"model": STATE})
    for broken in (data[:-30], data[: len(data) // 2], b"\x80\x02" + data[:500], data[:9]):
        message = refuse_file(tmp_path, broken).message
        assert "best.pt" in message
        assert not any(word in message for word in ("PyTorch", "Weights only", "Error", "http"))


@pytest.mark.parametrize("number", [np.float64(76.1), np.float32(76.1), np.int64(76)])
def test_numpy_accuracy_is_read_as_a_number(tmp_path, number):
    info = verify_file(tmp_path, {"model": STATE, "best_acc1": number}).info
    assert info["reported_top1"] == pytest.approx(float(number))


def test_number_of_objects_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_scan, "MAX_OBJECTS", 500)
    history = [np.float64(epoch) for epoch in range(300)]
    assert_equal_weights(verify_file(tmp_path, {"model": STATE}).tensors, STATE)
    error = refuse_file(tmp_path, {"model": STATE, "history": [*history, *map(np.dtype, "fd")] * 2})
    assert "more than 500 objects" in error.message
