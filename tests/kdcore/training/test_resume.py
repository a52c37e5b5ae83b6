"""Killed anywhere and started again, a job ends in the bytes of one that was left in peace."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdcore.protocol.requests import RunRequest
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.training.checkpoint import CheckpointSchedule
from tests.kdcore.training import nursery
from tests.kdcore.training.helpers import StopAfter, World, events_of, same_networks, sha256, train

# A checkpoint at every batch boundary, so that kills meet every place where a run can go on.
PROGRAM = """
import sys
from kdcore.training.checkpoint import CheckpointSchedule
CheckpointSchedule.min_interval_s = CheckpointSchedule.max_interval_s = 0.0
CheckpointSchedule.max_time_share = 1e9
from kdcore.process.main import main
sys.exit(main())
"""
STUDENT = Path("artifacts/student.safetensors")


def start(request: RunRequest, workdir: Path) -> "subprocess.Popen[bytes]":
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "request.json"
    path.write_text(request.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(path), "--workdir", str(workdir)],
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stderr=subprocess.PIPE,
    )


def wait_for(process: "subprocess.Popen[bytes]", workdir: Path, text: str, count: int) -> None:
    """Until ``count`` lines more than now hold ``text``, or the process is done."""
    goal = nursery.lines(workdir, text) + count
    end = time.monotonic() + 60
    while nursery.lines(workdir, text) < goal and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def finish(process: "subprocess.Popen[bytes]") -> int:
    _, told = process.communicate(timeout=120)
    assert b"Traceback" not in told, told.decode()
    return process.returncode


@pytest.fixture(scope="module")
def quiet(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRequest, Path]:
    """A job with a baseline, and what became of it undisturbed."""
    request = world.request(
        training={"epochs": 2, "clip_grad_norm": 5.0}, evaluation={"baseline": True}
    )
    return request, train(request, tmp_path_factory.mktemp("quiet"))


def final_numbers(workdir: Path) -> dict[str, object]:
    report = events_of(workdir, "report")[-1]["report"]
    timed = ("latency_ms", "images_per_s")
    return {
        role: {name: value for name, value in report[role].items() if name not in timed}
        for role in ("student", "teacher", "baseline")
    }


def test_equal_jobs_give_equal_bytes_whether_checkpoints_are_written_or_not(
    world: World, quiet: tuple[RunRequest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, undisturbed = quiet
    for name, value in {
        "min_interval_s": 0.0,
        "max_interval_s": 0.0,
        "max_time_share": 1e9,
    }.items():
        monkeypatch.setattr(CheckpointSchedule, name, value)
    again = train(request, tmp_path)
    assert len(events_of(again, "checkpoint")) > len(events_of(undisturbed, "checkpoint"))
    assert sha256(again / STUDENT) == sha256(undisturbed / STUDENT)
    assert final_numbers(again) == final_numbers(undisturbed)
    assert len(list((again / "checkpoints").glob("step-*.pt"))) == 2


def test_killed_at_random_it_ends_in_the_same_bytes(
    quiet: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, undisturbed = quiet
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    kills = [
        ('"type":"checkpoint"', 1),  # right after the first checkpoint
        ('"train/loss"', generator.randint(1, 5)),
        ('"train/loss"', generator.randint(1, 8)),
        ('"baseline/train/loss"', generator.randint(1, 4)),
        ('"evaluating"', 1),
    ]
    for text, count in kills:
        nursery.kill_after(request, tmp_path, text, count, generator.random() * 0.03)
    assert nursery.finish(nursery.start(request, tmp_path)) == 0, f"seed {seed}"
    assert sha256(tmp_path / STUDENT) == sha256(undisturbed / STUDENT), f"seed {seed}"
    assert final_numbers(tmp_path) == final_numbers(undisturbed), f"seed {seed}"
    assert same_networks(tmp_path, undisturbed), f"seed {seed}"
    first = [event["runtime"] for event in events_of(tmp_path, "phase") if event["runtime"]]
    assert any(chosen.get("resumed_from_step", 0) > 0 for chosen in first)
    assert not any(chosen.get("non_exact") for chosen in first)
    tops = [e for e in events_of(tmp_path, "metrics") if "teacher/top1" in e["values"]]
    assert len(tops) == 1


def test_sigterm_writes_a_checkpoint_and_a_later_run_completes(
    quiet: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, undisturbed = quiet
    process = start(request, tmp_path)
    wait_for(process, tmp_path, '"train/loss"', 3)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 10
    assert events_of(tmp_path, "checkpoint")
    assert not (tmp_path / STUDENT).exists()
    train(request, tmp_path)
    assert sha256(tmp_path / STUDENT) == sha256(undisturbed / STUDENT)


def stopped(request: RunRequest, workdir: Path, looks: int) -> None:
    with pytest.raises(RunCancelledError):
        train(request, workdir, StopAfter(looks))


def test_stopped_at_every_boundary_in_turn_nothing_changes(
    quiet: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, undisturbed = quiet
    # One look for the gate's batch; then each run goes on by a few batches, validations included.
    for _ in range(40):
        try:
            train(request, tmp_path, StopAfter(13))
            break
        except RunCancelledError:
            continue
    assert sha256(tmp_path / STUDENT) == sha256(undisturbed / STUDENT)
    assert final_numbers(tmp_path) == final_numbers(undisturbed)
    told = {
        (next(iter(e["values"])), e["step"]): {
            name: value
            for name, value in e["values"].items()
            if not name.endswith(("images_per_s", "data_share", "memory_bytes"))
        }
        for workdir in (tmp_path, undisturbed)
        for e in events_of(workdir, "metrics")
    }
    for event in events_of(tmp_path, "metrics"):
        values = told[next(iter(event["values"])), event["step"]]
        assert {k: v for k, v in event["values"].items() if k in values} == values


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no sidecar"])
def test_a_damaged_newest_checkpoint_is_passed_by(
    world: World, quiet: tuple[RunRequest, Path], tmp_path: Path, damage: str
) -> None:
    request, undisturbed = quiet
    stopped(request, tmp_path, 4)
    stopped(request, tmp_path, 3)
    newest = max((tmp_path / "checkpoints").glob("step-*.pt"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "no sidecar":
        newest.with_suffix(".json").unlink()
    else:
        newest.write_bytes({"flip": data, "cut": data[:-9], "empty": b""}[damage])
    older = min((tmp_path / "checkpoints").glob("step-*.json"))
    step = json.loads(older.read_text())["step"]
    stopped(request, tmp_path, 2)
    chosen = events_of(tmp_path, "phase")[-2]["runtime"]
    assert chosen["resumed_from_step"] == step
    assert any("damaged" in event["message"] for event in events_of(tmp_path, "log"))
    train(request, tmp_path)
    assert sha256(tmp_path / STUDENT) == sha256(undisturbed / STUDENT)


def test_a_checkpoint_of_another_job_is_refused(world: World, tmp_path: Path) -> None:
    stopped(world.request(), tmp_path, 4)
    with pytest.raises(UserError, match="another job"):
        train(world.request(seed=8), tmp_path)


def test_another_thread_count_is_said_to_be_inexact(world: World, tmp_path: Path) -> None:
    stopped(world.request(), tmp_path, 4)
    with pytest.raises(RunCancelledError):
        train(world.request().model_copy(update={"threads": 2}), tmp_path, StopAfter(3))
    chosen = [e["runtime"] for e in events_of(tmp_path, "phase") if e["runtime"]]
    assert [c.get("non_exact") for c in chosen] == [None, True]
    assert any("threads was 1, is 2" in e["message"] for e in events_of(tmp_path, "log"))


def test_a_checkpoint_runs_no_code(world: World, tmp_path: Path) -> None:
    stopped(world.request(), tmp_path, 5)
    path = next((tmp_path / "checkpoints").glob("step-*.pt"))
    state = torch.load(path, weights_only=True)
    assert state["current"]["step"] > 0
