"""The engine's process: exit codes, events, limits, signals and its supervisor's end."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from pydantic import TypeAdapter

from kdcore.process import main
from kdcore.protocol.events import AnyEvent
from kdcore.protocol.requests import ExitCode
from tests.kdcore.uploads import encode_image, image_tree, png, write_archive

EVENT = TypeAdapter(AnyEvent)


def start_engine(tmp_path, command, request, *flags, **options):
    (tmp_path / "request.json").write_text(json.dumps(request))
    arguments = [sys.executable, "-m", "kdcore", command, str(tmp_path / "request.json")]
    arguments += ["--workdir", str(tmp_path), *flags]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, **options)


def wait_for_exit(process):
    """The exit code and what was written to stderr."""
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


def read_events(tmp_path):
    text = (tmp_path / "events.jsonl").read_text().splitlines()
    return [EVENT.validate_json(line) for line in text]


def slow_members():
    """Images that take some ten seconds to decode and no time to write."""
    image = encode_image(Image.new("RGB", (3000, 2999)))
    return dict.fromkeys(image_tree(150), image)


def zip_request(tmp_path, members):
    return {"source": "archive", "path": str(write_archive(tmp_path / "in.zip", members))}


def test_ingestion_exits_with_zero_and_loads_no_torch(tmp_path):
    process = start_engine(tmp_path, "ingest", zip_request(tmp_path, image_tree(5)))
    code, stderr = wait_for_exit(process)
    assert (code, stderr) == (0, "")
    events = read_events(tmp_path)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events][-3:] == ["artifact", "report", "done"]
    probe = "import sys, kdcore.process.main, kdcore.data.ingest.pipeline;"
    probe += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_bad_archive_exits_with_20_and_an_error_event(tmp_path):
    process = start_engine(
        tmp_path, "ingest", zip_request(tmp_path, {**image_tree(3), "../x.png": png(1)})
    )
    assert wait_for_exit(process) == (ExitCode.USER_ERROR, "")
    error = read_events(tmp_path)[-1]
    assert (error.type, error.code) == ("error", "dataset_invalid")
    assert [i.name for i in error.items] == ["../x.png"]


def test_memory_limit_is_reported_as_a_user_error(tmp_path):
    image = encode_image(Image.new("RGBA", (5000, 5000)))
    # Less than the copies of one such image take, more than the interpreter needs.
    resource_limits = {"memory_bytes": 400 << 20}
    request = zip_request(tmp_path, dict.fromkeys(image_tree(3), image)) | {
        "limits": resource_limits,
        "threads": 1,
    }
    assert wait_for_exit(start_engine(tmp_path, "ingest", request)) == (ExitCode.USER_ERROR, "")
    assert "exceeds the limit of memory" in read_events(tmp_path)[-1].message


def test_cpu_and_file_limits_are_reported_as_user_errors(tmp_path):
    members = {name: png(i, (300, 300)) for i, name in enumerate(image_tree(4))}
    request = zip_request(tmp_path, members) | {"limits": {"file_bytes": 100_000}}
    assert wait_for_exit(start_engine(tmp_path, "ingest", request))[0] == ExitCode.USER_ERROR
    assert "disk space" in read_events(tmp_path)[-1].message
    assert not (tmp_path / "artifacts" / "dataset.safetensors").exists()
    image = encode_image(Image.new("RGB", (3000, 3000)))  # far more work than the limit allows
    request = zip_request(tmp_path, dict.fromkeys(image_tree(60), image))
    code, _ = wait_for_exit(start_engine(tmp_path, "ingest", request | {"limits": {"cpu_s": 2}}))
    assert code == ExitCode.USER_ERROR
    assert "processor time" in read_events(tmp_path)[-1].message


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not a valid IngestRequest"), ('{"source": "x"}', "not a valid IngestRequest")],
)
def test_invalid_request_is_reported(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    code = main.main(["ingest", str(tmp_path / "r.json"), "--workdir", str(tmp_path)])
    assert code == ExitCode.USER_ERROR
    error = read_events(tmp_path)[-1]
    assert error.code == "internal"
    assert error.items


def test_process_ends_with_its_supervisor(tmp_path):
    members = slow_members()
    process = start_engine(
        tmp_path,
        "ingest",
        zip_request(tmp_path, members),
        "--supervised",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_event(tmp_path, "phase")
    process.stdin.close()
    process.stdin = None
    assert wait_for_exit(process)[0] == -signal.SIGKILL
    assert not (tmp_path / "artifacts").exists()


def test_sigterm_ends_ingestion_between_two_images(tmp_path):
    members = slow_members()
    process = start_engine(tmp_path, "ingest", zip_request(tmp_path, members))
    wait_for_event(tmp_path, "phase")
    process.send_signal(signal.SIGTERM)
    code, stderr = wait_for_exit(process)
    assert (code, stderr) == (ExitCode.STOPPED, "")
    assert not (tmp_path / "artifacts").exists()


def wait_for_event(tmp_path, event_type):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = tmp_path / "events.jsonl"
        if path.exists() and f'"type":"{event_type}"' in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"no {event_type} event")


class CodeInPickle:
    """Unpickling an instance makes a directory: the canary."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_hostile_checkpoint_exits_with_20_under_a_memory_limit(tmp_path):
    (tmp_path / "upload").write_bytes(pickle.dumps(CodeInPickle(tmp_path / "canary"), protocol=2))
    request = {"path": str(tmp_path / "upload"), "architecture": "cifar/resnet8", "num_classes": 3}
    request |= {"limits": {"memory_bytes": 6 << 30, "cpu_s": 60}, "threads": 1}
    assert wait_for_exit(start_engine(tmp_path, "verify", request)) == (ExitCode.USER_ERROR, "")
    error = read_events(tmp_path)[-1]
    assert (error.type, error.code) == ("error", "checkpoint_invalid")
    assert "contains code (posix.mkdir)" in error.message
    assert not (tmp_path / "canary").exists()


REPORT_EVERY_END = """
import json, sys
from pathlib import Path
from kdcore.process.main import Command, run_command
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import (
    NonFiniteError, OutOfDeviceMemoryError, RunCancelledError, UserError, error_detail)
from kdcore.runtime.limits import CpuTimeExceededError

ERRORS = {
    "user": UserError("dataset_invalid", "bad", items=[error_detail("x", "y")]),
    "non_finite": NonFiniteError("step 3"),
    "device_memory": OutOfDeviceMemoryError("too big"),
    "memory": MemoryError(),
    "cpu_time": CpuTimeExceededError(),
    "crash": RuntimeError("a bug"),
    "cancelled": RunCancelledError("on request"),
}
root = Path(sys.argv[1])
(root / "request.json").write_text('{"source": "builtin:digits"}')

def fail(request, workdir, events, cancellation):
    raise ERRORS[workdir.name]

exits = {}
command = Command(IngestRequest, "__main__.fail", "dataset_invalid")
for name in ERRORS:
    events_file = root / name / "events.jsonl"
    code = run_command(command, root / "request.json", root / name, events_file)
    events = [json.loads(line) for line in events_file.read_text().splitlines()]
    exits[name] = [code, [event["code"] for event in events if event["type"] == "error"]]
print(json.dumps(exits))
"""


EXCEED_CPU_LIMIT_AFTER_THE_RESULT = """
import json, math, sys, time
from pathlib import Path
from kdcore.process.main import Command, run_command
from kdcore.protocol.requests import IngestRequest

root = Path(sys.argv[1])
cpu_s = math.ceil(time.process_time()) + 1
request = {"source": "builtin:digits", "limits": {"cpu_s": cpu_s}}
(root / "request.json").write_text(json.dumps(request))

def finish(request, workdir, events, cancellation):
    if sys.argv[2] == "error":
        raise MemoryError

command = Command(IngestRequest, "__main__.finish", "dataset_invalid")
code = run_command(command, root / "request.json", root, root / "events.jsonl")
while time.process_time() < cpu_s + 0.2:
    pass
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("result", "code"), [("report", ExitCode.DONE), ("error", ExitCode.USER_ERROR)]
)
def test_cpu_limit_after_the_result_does_not_change_the_exit_code(tmp_path, result, code):
    command = [sys.executable, "-c", EXCEED_CPU_LIMIT_AFTER_THE_RESULT, str(tmp_path), result]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (code, "")


def test_every_end_has_its_exit_code(tmp_path):
    # A process of its own, because a command sets limits and signal handlers.
    command = [sys.executable, "-c", REPORT_EVERY_END, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(process.stdout) == {
        "user": [ExitCode.USER_ERROR, ["dataset_invalid"]],
        "non_finite": [ExitCode.NON_FINITE, ["non_finite_loss"]],
        "device_memory": [ExitCode.OUT_OF_MEMORY, ["out_of_memory"]],
        "memory": [ExitCode.USER_ERROR, ["dataset_invalid"]],
        "cpu_time": [ExitCode.USER_ERROR, ["dataset_invalid"]],
        "crash": [1, []],
        "cancelled": [ExitCode.STOPPED, []],
    }
    assert process.stderr.count("Traceback") == 1
    assert "RuntimeError: a bug" in process.stderr
