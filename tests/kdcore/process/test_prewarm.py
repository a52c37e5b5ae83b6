"""A process that has everything loaded runs its one request as any other does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdcore.protocol.requests import ExitCode, RunCommand, RunRequest
from tests.kdcore.training.helpers import World, events_of, sha256, train

STUDENT = Path("artifacts/student.safetensors")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "--prewarm", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def errand(request: RunRequest, workdir: Path, **environment: str) -> bytes:
    workdir.mkdir(exist_ok=True)
    file = workdir / "request.json"
    file.write_text(request.model_dump_json())
    told = RunCommand(
        request=str(file),
        workdir=str(workdir),
        stderr=str(workdir / "stderr.log"),
        environment=environment,
    )
    return told.model_dump_json().encode() + b"\n"


def send(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def test_its_student_is_the_same(
    world: World, waiting: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    request = world.request(training={"epochs": 1})
    send(waiting, errand(request, tmp_path / "sent", TMPDIR=str(tmp_path), HOME=str(tmp_path)))
    folder = Path(f"/proc/{waiting.pid}/cwd")
    told = (tmp_path / "sent" / "stderr.log").resolve()
    while waiting.poll() is None and not told.exists():
        os.sched_yield()
    assert folder.readlink() == (tmp_path / "sent").resolve()
    assert waiting.wait(timeout=120) == ExitCode.DONE, told.read_text()
    started = train(request, tmp_path / "started")
    assert sha256(tmp_path / "sent" / STUDENT) == sha256(started / STUDENT)
    chosen = next(event["runtime"] for event in events_of(tmp_path / "sent", "phase"))
    assert chosen["threads"] == request.threads


def test_a_fault_is_told_as_ever(
    world: World, waiting: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    request = world.request()
    broken = request.model_copy(
        update={"dataset": request.dataset.model_copy(update={"sha256": 64 * "0"})}
    )
    send(waiting, errand(broken, tmp_path))
    assert waiting.wait(timeout=120) == ExitCode.USER_ERROR
    assert events_of(tmp_path, "error")[0]["code"] == "dataset_invalid"


@pytest.mark.parametrize("sent", [b"", b'{"request": '])
def test_whoever_sent_nothing_whole_is_gone(
    waiting: "subprocess.Popen[bytes]", sent: bytes
) -> None:
    assert waiting.stdin is not None
    waiting.stdin.write(sent)
    waiting.stdin.close()
    assert waiting.wait(timeout=60) == 0
    assert not Path(f"/proc/{waiting.pid}").exists()


def test_it_ends_with_its_supervisor_and_by_its_signal(
    world: World, waiting: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    send(waiting, errand(world.request(training={"epochs": 500}), tmp_path))
    events = tmp_path / "events.jsonl"
    while waiting.poll() is None and not (events.exists() and "train/loss" in events.read_text()):
        os.sched_yield()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=60) == ExitCode.STOPPED
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])["type"] == "log"
