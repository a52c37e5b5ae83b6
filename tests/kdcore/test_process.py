"""The process: exit codes, events, limits, signals, and no orphan."""

import contextlib
import errno
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError

from kdcore.process import main
from kdcore.process.main import Command
from kdcore.protocol.events import AnyEvent
from kdcore.protocol.requests import HEARTBEAT_FILE, ExitCode, IngestRequest
from kdcore.runtime import limits
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import (
    NonFiniteError,
    OutOfDeviceMemoryError,
    RunCancelledError,
    UserError,
    error_detail,
)
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.exit_codes import report_failure
from tests.kdcore.uploads import archive, encoded, png, tree

EVENT = TypeAdapter(AnyEvent)


def start(tmp_path, command, request, *flags, **options):
    (tmp_path / "request.json").write_text(json.dumps(request))
    arguments = [sys.executable, "-m", "kdcore", command, str(tmp_path / "request.json")]
    arguments += ["--workdir", str(tmp_path), *flags]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, **options)


def ended(process):
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def lines(tmp_path):
    text = (tmp_path / "events.jsonl").read_text().splitlines()
    return [EVENT.validate_json(line) for line in text]


def slow():
    """Members that take some ten seconds to decode, and none to make."""
    image = encoded(Image.new("RGB", (3000, 2999)))
    return dict.fromkeys(tree(150), image)


def zipped(tmp_path, members):
    return {"source": "archive", "path": str(archive(tmp_path / "in.zip", members))}


def test_a_good_ingestion_ends_with_zero_and_does_not_load_torch(tmp_path):
    process = start(tmp_path, "ingest", zipped(tmp_path, tree(5)))
    code, err = ended(process)
    assert (code, err) == (0, "")
    events = lines(tmp_path)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events][-3:] == ["artifact", "report", "done"]
    probe = "import sys, kdcore.process.main, kdcore.data.ingest.pipeline;"
    probe += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_bad_archive_ends_with_twenty_and_an_error_event(tmp_path):
    process = start(tmp_path, "ingest", zipped(tmp_path, {**tree(3), "../x.png": png(1)}))
    assert ended(process) == (ExitCode.USER_ERROR, "")
    error = lines(tmp_path)[-1]
    assert (error.type, error.code) == ("error", "dataset_invalid")
    assert [i.name for i in error.items] == ["../x.png"]


def test_memory_limit_is_a_fault_of_the_upload(tmp_path):
    image = encoded(Image.new("RGBA", (5000, 5000)))
    # Less than the copies of one such image take, more than the interpreter needs.
    limits_ = {"memory_bytes": 400 << 20}
    request = zipped(tmp_path, dict.fromkeys(tree(3), image)) | {"limits": limits_, "threads": 1}
    assert ended(start(tmp_path, "ingest", request)) == (ExitCode.USER_ERROR, "")
    assert "more memory to open than it may" in lines(tmp_path)[-1].message


def test_cpu_and_file_limits_are_faults_of_the_upload(tmp_path):
    members = {name: png(i, (300, 300)) for i, name in enumerate(tree(4))}
    request = zipped(tmp_path, members) | {"limits": {"file_bytes": 100_000}}
    assert ended(start(tmp_path, "ingest", request))[0] == ExitCode.USER_ERROR
    assert "room on disk" in lines(tmp_path)[-1].message
    assert not (tmp_path / "artifacts" / "dataset.safetensors").exists()
    request = {"source": "builtin:digits", "limits": {"cpu_s": 1}}
    code, _ = ended(start(tmp_path, "ingest", request))
    assert code == ExitCode.USER_ERROR
    assert "processor time" in lines(tmp_path)[-1].message


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not a IngestRequest"), ('{"source": "x"}', "not a IngestRequest")]
)
def test_a_bad_request(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    code = main.main(["ingest", str(tmp_path / "r.json"), "--workdir", str(tmp_path)])
    assert code == ExitCode.USER_ERROR
    error = lines(tmp_path)[-1]
    assert error.code == "internal"
    assert error.items


def test_the_supervisors_death_ends_the_process(tmp_path):
    members = slow()
    process = start(
        tmp_path,
        "ingest",
        zipped(tmp_path, members),
        "--supervised",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(tmp_path, "phase")
    process.stdin.close()
    process.stdin = None
    assert ended(process)[0] == -signal.SIGKILL
    assert not (tmp_path / "artifacts").exists()


def test_sigterm_stops_between_two_images(tmp_path):
    members = slow()
    process = start(tmp_path, "ingest", zipped(tmp_path, members))
    wait_for(tmp_path, "phase")
    process.send_signal(signal.SIGTERM)
    code, err = ended(process)
    assert (code, err) == (ExitCode.STOPPED, "")
    assert not (tmp_path / "artifacts").exists()


def wait_for(tmp_path, kind):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = tmp_path / "events.jsonl"
        if path.exists() and f'"type":"{kind}"' in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"no {kind} event")


@pytest.mark.parametrize(
    ("error", "code", "event"),
    [
        (
            UserError("dataset_invalid", "bad", items=[error_detail("x", "y")]),
            20,
            "dataset_invalid",
        ),
        (NonFiniteError("step 3"), 22, "non_finite_loss"),
        (OutOfDeviceMemoryError("too big"), 21, "out_of_memory"),
        (MemoryError(), 20, "dataset_invalid"),
        (limits.CpuTimeExceededError(), 20, "dataset_invalid"),
        (RuntimeError("a bug"), 1, None),
        (RunCancelledError("on request"), 10, None),
    ],
)
def test_every_end_has_its_code(tmp_path, monkeypatch, capsys, error, code, event):
    def fail(*_arguments):
        raise error

    command = Command(IngestRequest, lambda: fail, "dataset_invalid")
    monkeypatch.setitem(main.COMMANDS, "ingest", command)
    monkeypatch.setattr(limits, "apply", lambda request: None)
    monkeypatch.setattr("kdcore.runtime.cancellation.Stop.listen", lambda self: None)
    (tmp_path / "r.json").write_text('{"source": "builtin:digits"}')
    assert main.main(["ingest", str(tmp_path / "r.json"), "--workdir", str(tmp_path)]) == code
    errors = [e.code for e in lines(tmp_path) if e.type == "error"]
    assert errors == ([event] if event else [])
    assert ("a bug" in capsys.readouterr().err) == (code == 1)


def test_numbers_go_on_after_a_torn_line(tmp_path):
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        events = EventWriter(path, tmp_path)
        events.log("info", "a\nb")
        events.metrics(1, 0.5, {"train/loss": float("nan"), "train/lr": 0.1})
        events.close()
        with path.open("a") as file:
            file.write('{"seq": 99, "ti')
    EventWriter(path, tmp_path).close()
    events = lines(tmp_path)
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert events[1].values == {"train/loss": None, "train/lr": 0.1}


class Runs:
    """Unpickling it makes a directory: the canary."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_hostile_checkpoint_ends_with_twenty_under_a_memory_limit(tmp_path):
    (tmp_path / "upload").write_bytes(pickle.dumps(Runs(tmp_path / "canary"), protocol=2))
    request = {"path": str(tmp_path / "upload"), "architecture": "cifar/resnet8", "num_classes": 3}
    request |= {"limits": {"memory_bytes": 6 << 30, "cpu_s": 60}, "threads": 1}
    assert ended(start(tmp_path, "verify", request)) == (ExitCode.USER_ERROR, "")
    error = lines(tmp_path)[-1]
    assert (error.type, error.code) == ("error", "checkpoint_invalid")
    assert "would run posix.mkdir" in error.message
    assert not (tmp_path / "canary").exists()


def plain(room):
    room.write(bytes(100_000))


def checkpoint(room):
    torch.save({"weight": torch.ones(100_000)}, room)


def quota(room):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


def safetensors(room):  # which replaces the file it is given, so that a device must not be it
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [plain, checkpoint, quota, safetensors])
def test_a_full_disk_has_an_exit_code_of_its_own(tmp_path, write):
    # Unbuffered: else closing the file would raise over what the write has raised.
    with (
        open("/dev/full", "wb", buffering=0) as room,
        pytest.raises((OSError, RuntimeError, SafetensorError)) as raised,
    ):
        write(room)
    error = raised.value
    with contextlib.closing(EventWriter(tmp_path / "events.jsonl", tmp_path)) as events:
        assert report_failure(error, events) == ExitCode.NO_SPACE
    assert [event.code for event in lines(tmp_path)] == ["storage_unavailable"]


def test_a_full_disk_is_told_also_where_events_cannot_be(tmp_path):
    with contextlib.closing(EventWriter(tmp_path / "events.jsonl", tmp_path)) as events:
        events._file.close()
        events._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
        with pytest.raises(OSError, match="No space left"):
            events.log("info", "x")
        code = report_failure(OSError(errno.ENOSPC, "full"), events)
    assert code == ExitCode.NO_SPACE


def test_work_shows_a_sign_of_life(tmp_path):
    stop = CancellationToken(tmp_path / HEARTBEAT_FILE)
    assert not (tmp_path / HEARTBEAT_FILE).exists()
    stop.check_cancelled()
    assert (tmp_path / HEARTBEAT_FILE).exists()
    stop.cancel()
    with pytest.raises(RunCancelledError):
        stop.check_cancelled()


HOLDING = """
import resource, sys
import numpy as np
from kdcore.process import limits
from kdcore.protocol.requests import IngestRequest
if sys.argv[1] == "held":
    limits.apply(IngestRequest(source="archive", path="none"))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(64 << 20, np.uint8)
before = faults()
for _ in range(10):
    np.ones(64 << 20, np.uint8)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_held_for_the_next_batch():
    held, given_back = (
        int(subprocess.check_output([sys.executable, "-c", HOLDING, word])) for word in ("held", "")
    )
    # Huge pages or not: what is asked for again has its pages still.
    assert given_back > 10
    assert held < given_back / 5
