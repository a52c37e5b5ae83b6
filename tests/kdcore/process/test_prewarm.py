"""A prewarmed process loads everything, then runs the one request that it receives."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdcore.protocol.requests import ExitCode, RunCommand, RunRequest
from tests.helpers import wait_until
from tests.kdcore.training.helpers import STUDENT, World, events_of, make_world, sha256, train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A prewarmed process."""
    engine = subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "--prewarm", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with engine:
        yield engine
        engine.kill()


def run_command(request: RunRequest, workdir: Path, **environment: str) -> bytes:
    """The line that starts ``request``."""
    workdir.mkdir(exist_ok=True)
    path = workdir / "request.json"
    path.write_text(request.model_dump_json())
    command = RunCommand(
        request=str(path),
        workdir=str(workdir),
        stderr=str(workdir / "stderr.log"),
        environment=environment,
    )
    return command.model_dump_json().encode() + b"\n"


def send(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    if process.stdin is None:
        raise ValueError("the process has no standard input")
    process.stdin.write(line)
    process.stdin.flush()


def test_the_student_is_that_of_a_new_process(
    world: World, process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    request = world.request(training={"epochs": 1})
    workdir = tmp_path / "prewarmed"
    send(process, run_command(request, workdir, TMPDIR=str(tmp_path), HOME=str(tmp_path)))
    stderr = (workdir / "stderr.log").resolve()
    wait_until(lambda: process.poll() is not None or stderr.exists(), 60, "the request is read")
    assert Path(f"/proc/{process.pid}/cwd").readlink() == workdir.resolve()
    assert process.wait(timeout=120) == ExitCode.DONE, stderr.read_text()
    reference = train(request, tmp_path / "reference")
    assert sha256(workdir / STUDENT) == sha256(reference / STUDENT)
    runtime = next(event["runtime"] for event in events_of(workdir, "phase"))
    assert runtime["threads"] == request.threads


def test_user_errors_are_reported(
    world: World, process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    request = world.request()
    dataset = request.dataset.model_copy(update={"sha256": 64 * "0"})
    send(process, run_command(request.model_copy(update={"dataset": dataset}), tmp_path))
    assert process.wait(timeout=120) == ExitCode.USER_ERROR
    assert events_of(tmp_path, "error")[0]["code"] == "dataset_invalid"


@pytest.mark.parametrize("line", [b"", b'{"request": '])
def test_the_process_ends_if_no_complete_line_comes(
    process: "subprocess.Popen[bytes]", line: bytes
) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert not Path(f"/proc/{process.pid}").exists()


def test_sigterm_stops_a_running_request(
    world: World, process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    send(process, run_command(world.request(training={"epochs": 500}), tmp_path))
    events = tmp_path / "events.jsonl"

    def is_training() -> bool:
        return events.exists() and "train/loss" in events.read_text()

    wait_until(lambda: process.poll() is not None or is_training(), 120, "training has started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == ExitCode.STOPPED
    assert json.loads(events.read_text().splitlines()[-1])["type"] == "log"
