"""Checkpoints of versions before 0.1.0 resume: their keys had other names."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.runtime.errors import RunCancelledError
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.training.helpers import (
    STUDENT,
    CancelAfter,
    World,
    assert_same_networks,
    events_of,
    newest_checkpoint,
    sha256,
    train,
    with_fields,
)


def old_result(result: dict[str, Any]) -> dict[str, Any]:
    renamed = {"phase_index": "phase", "seed_index": "number"}
    return {renamed.get(name, name): value for name, value in result.items()}


def old_student(student: dict[str, Any]) -> dict[str, Any]:
    return {
        "student": student["network"],
        "objective": student["objective"],
        "peers": student["peer_objectives"],
        "optimizer": student["optimizer"],
    }


def old_phase(current: dict[str, Any]) -> dict[str, Any]:
    """The state of an incomplete phase as it was written before 0.1.0."""
    state, group = current["train_state"], current["student_group"]
    stopper = state["early_stopper"]
    return {
        "role": current["role"],
        "number": current["seed_index"],
        "cohort": {
            "learners": [old_student(student) for student in group["students"]],
            "micro_batches": group["num_micro_batches"],
        },
        "meters": current["loss_meters"],
        "patience": {"mark": stopper["best_top1"], "since": stopper["epochs_since_best"]},
        "step": state["step"],
        "validated": state["epoch"],
        "last": state["last_metrics"],
        "best": state["best"],
    }


def rewrite_as_old(path: Path) -> None:
    """Write a checkpoint again with the keys of versions before 0.1.0."""
    state = torch.load(path, weights_only=True)
    state["machine"] = state.pop("compute_env")
    state[old_spelling("normalization")] = state.pop("normalization")
    state["results"] = [old_result(result) for result in state["results"]]
    if state["current"] is not None:
        state["current"] = old_phase(state["current"])
    torch.save(state, path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(sidecar))


@pytest.mark.parametrize("num_checks", [14, 24])
def test_an_old_checkpoint_resumes_exactly(world: World, tmp_path: Path, num_checks: int) -> None:
    scheme = {"type": "mutual", "peers": ["cifar/resnet8"]}
    training = {"epochs": 2, "early_stopping": {"patience": 5}}
    request = world.request("kd", 1, training, scheme=scheme, evaluation={"baseline": True})
    complete = train(request, tmp_path / "complete")
    with pytest.raises(RunCancelledError):
        train(request, tmp_path / "resumed", CancelAfter(num_checks))
    for path in (tmp_path / "resumed" / "checkpoints").glob("step-*.pt"):
        rewrite_as_old(path)
    resumed = train(request, tmp_path / "resumed")
    runtime = events_of(resumed, "phase")[2]["runtime"]
    assert runtime["resumed_from_step"] > 0
    assert runtime["non_exact"] is False
    assert sha256(resumed / STUDENT) == sha256(complete / STUDENT)
    assert_same_networks(resumed, complete)


def test_a_job_continues_from_an_old_checkpoint(world: World, tmp_path: Path) -> None:
    first = train(world.request("kd", 1, {"epochs": 1}), tmp_path / "first")
    training = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.01}}
    request = world.request("kd", 1, training)
    present = newest_checkpoint(first)
    expected = train(with_fields(request, continue_from=present), tmp_path / "present")
    rewrite_as_old(Path(present.path))
    old = train(with_fields(request, continue_from=newest_checkpoint(first)), tmp_path / "old")
    assert sha256(old / STUDENT) == sha256(expected / STUDENT)
