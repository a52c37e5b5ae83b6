"""A run that is killed or cancelled anywhere resumes, and ends in the bytes of a complete run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdcore.protocol.requests import ExitCode, RunRequest
from kdcore.runtime.errors import RunCancelledError, UserError
from tests.kdcore.training import engine_process
from tests.kdcore.training.engine_process import wait_for_lines, write_request
from tests.kdcore.training.helpers import (
    STUDENT,
    CancelAfter,
    World,
    assert_same_networks,
    events_of,
    log_text,
    report_of,
    sha256,
    train,
    with_fields,
)


def start_program(request: RunRequest, workdir: Path) -> "subprocess.Popen[bytes]":
    """Start ``python -m kdcore run`` as a worker does."""
    path = write_request(request, workdir)
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", str(path), "--workdir", str(workdir)],
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def complete(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRequest, Path]:
    """A job with a baseline, and the folder of its uninterrupted run."""
    request = world.request(
        training={"epochs": 2, "clip_grad_norm": 5.0}, evaluation={"baseline": True}
    )
    return request, train(request, tmp_path_factory.mktemp("complete"))


def final_numbers(workdir: Path) -> dict[str, object]:
    """The evaluations of the report without times."""
    report = report_of(workdir)
    timed = ("latency_ms", "images_per_s")
    return {
        role: {name: value for name, value in report[role].items() if name not in timed}
        for role in ("student", "teacher", "baseline")
    }


def test_checkpoints_do_not_change_the_bytes(
    complete: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, uninterrupted = complete
    workdir = train(with_fields(request, checkpoint_interval_s=0.0), tmp_path)
    assert len(events_of(workdir, "checkpoint")) > len(events_of(uninterrupted, "checkpoint"))
    assert sha256(workdir / STUDENT) == sha256(uninterrupted / STUDENT)
    assert final_numbers(workdir) == final_numbers(uninterrupted)
    assert len(list((workdir / "checkpoints").glob("step-*.pt"))) == 2


def test_a_run_killed_at_random_ends_in_the_same_bytes(
    complete: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, uninterrupted = complete
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    kills = [
        ('"type":"checkpoint"', 1),
        ('"train/loss"', generator.randint(1, 5)),
        ('"train/loss"', generator.randint(1, 8)),
        ('"baseline/train/loss"', generator.randint(1, 4)),
        ('"evaluating"', 1),
    ]
    for text, count in kills:
        engine_process.kill_after(request, tmp_path, text, count, generator.random() * 0.03)
    assert engine_process.finish(engine_process.start(request, tmp_path)) == 0, f"seed {seed}"
    assert sha256(tmp_path / STUDENT) == sha256(uninterrupted / STUDENT), f"seed {seed}"
    assert final_numbers(tmp_path) == final_numbers(uninterrupted), f"seed {seed}"
    assert_same_networks(tmp_path, uninterrupted, f"seed {seed}")
    phases = events_of(tmp_path, "phase")
    runtimes = [event["runtime"] for event in phases if event["runtime"]]
    assert any(runtime.get("resumed_from_step", 0) > 0 for runtime in runtimes)
    assert not any(runtime.get("non_exact") for runtime in runtimes)
    metrics = events_of(tmp_path, "metrics")
    assert len([event for event in metrics if "teacher/top1" in event["values"]]) == 1


def terminate_after_three_steps(request: RunRequest, workdir: Path) -> int:
    """Start a run, send SIGTERM and return the exit code."""
    process = start_program(request, workdir)
    wait_for_lines(workdir, '"train/loss"', 3, lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=240)
    assert b"Traceback" not in stderr, stderr.decode()
    assert process.returncode in (ExitCode.DONE, ExitCode.STOPPED)
    return process.returncode


def test_sigterm_writes_a_checkpoint_and_a_later_run_completes(
    complete: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, uninterrupted = complete
    # On a busy machine the run may be complete before the signal is sent: then try again.
    for _ in range(5):
        shutil.rmtree(tmp_path)
        if terminate_after_three_steps(request, tmp_path) != ExitCode.DONE:
            break
    assert events_of(tmp_path, "checkpoint")
    assert not (tmp_path / STUDENT).exists()
    train(request, tmp_path)
    assert sha256(tmp_path / STUDENT) == sha256(uninterrupted / STUDENT)


def cancel(request: RunRequest, workdir: Path, num_checks: int) -> None:
    """Run until cancellation after ``num_checks`` checks."""
    with pytest.raises(RunCancelledError):
        train(request, workdir, CancelAfter(num_checks))


def test_cancelling_at_every_check_changes_nothing(
    complete: tuple[RunRequest, Path], tmp_path: Path
) -> None:
    request, uninterrupted = complete
    # One check while the teacher is evaluated, then a few steps and validations in each run.
    for _ in range(40):
        try:
            train(request, tmp_path, CancelAfter(13))
            break
        except RunCancelledError:
            continue
    assert sha256(tmp_path / STUDENT) == sha256(uninterrupted / STUDENT)
    assert final_numbers(tmp_path) == final_numbers(uninterrupted)
    expected = reproducible_metrics(uninterrupted)
    for key, values in reproducible_metrics(tmp_path).items():
        assert values == expected[key], key


def reproducible_metrics(workdir: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Metrics without times and memory, by the first one's name and by step."""
    measured = ("images_per_s", "data_share", "memory_bytes")
    return {
        (next(iter(event["values"])), event["step"]): {
            name: value for name, value in event["values"].items() if not name.endswith(measured)
        }
        for event in events_of(workdir, "metrics")
    }


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no sidecar"])
def test_a_damaged_newest_checkpoint_is_skipped(
    complete: tuple[RunRequest, Path], tmp_path: Path, damage: str
) -> None:
    request, uninterrupted = complete
    cancel(request, tmp_path, 4)
    cancel(request, tmp_path, 3)
    newest = max((tmp_path / "checkpoints").glob("step-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "no sidecar":
        newest.with_suffix(".json").unlink()
    else:
        newest.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}[damage])
    older = min((tmp_path / "checkpoints").glob("step-*.json"))
    step = json.loads(older.read_text())["step"]
    cancel(request, tmp_path, 2)
    runtime = events_of(tmp_path, "phase")[-2]["runtime"]
    assert runtime["resumed_from_step"] == step
    assert "damaged" in log_text(tmp_path)
    train(request, tmp_path)
    assert sha256(tmp_path / STUDENT) == sha256(uninterrupted / STUDENT)


def test_a_checkpoint_of_another_job_is_refused(world: World, tmp_path: Path) -> None:
    cancel(world.request(), tmp_path, 4)
    with pytest.raises(UserError, match="another job"):
        train(world.request(seed=8), tmp_path)


def test_another_number_of_threads_is_reported_as_inexact(world: World, tmp_path: Path) -> None:
    cancel(world.request(), tmp_path, 4)
    cancel(with_fields(world.request(), threads=2), tmp_path, 3)
    runtimes = [event["runtime"] for event in events_of(tmp_path, "phase") if event["runtime"]]
    assert [runtime.get("non_exact") for runtime in runtimes] == [None, True]
    assert "threads was 1, is 2" in log_text(tmp_path)


def test_loading_a_checkpoint_runs_no_code(world: World, tmp_path: Path) -> None:
    cancel(world.request(), tmp_path, 5)
    path = next((tmp_path / "checkpoints").glob("step-*.pt"))
    state = torch.load(path, weights_only=True)
    assert state["current"]["train_state"]["step"] > 0
