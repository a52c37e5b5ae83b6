"""Exact resume of every method and every scheme: SIGKILL at a random step, then the same bytes."""

import random
from pathlib import Path
from typing import Any

import pytest

from kdcore.schema.methods import METHODS, as_methods
from tests.kdcore.training.helpers import World, events_of, same_networks, sha256
from tests.kdcore.training.nursery import finish, kill_after, start

STUDENT = Path("artifacts/student.safetensors")
STEP = '"train/loss"'
STEPS_PER_EPOCH = 7
MIXED = {
    "epochs": 2,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "augmentation": [{"type": "crop_flip", "padding": 1, "flip": True}, {"type": "mixup"}],
}
SCHEMES: dict[str, dict[str, Any]] = {
    "mutual": {"type": "mutual", "peers": ["cifar/resnet8"]},
    "born_again": {"type": "born_again", "generations": 2},
    "teacher_assistant": {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]},
    "label_refinery": {"type": "label_refinery", "max_rounds": 2},
}


def killed_and_resumed(world: World, tmp_path: Path, phases: int, **job: Any) -> None:
    """Two kills at random, one of them near the border of a phase where there is one."""
    request = world.request(**job)
    quiet = start(request, tmp_path / "quiet")
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    steps = STEPS_PER_EPOCH * request.job.training.epochs
    # From the third on: a kill at once after the first would find no checkpoint but that of step 0.
    first = generator.randint(3, steps - 1)
    # Into the next phase, or to the end of the only one.
    second = steps - first + generator.randint(-1, 3) if phases > 1 else generator.randint(1, 4)
    alive = [
        kill_after(request, tmp_path / "killed", STEP, max(1, count)) for count in (first, second)
    ]
    assert alive[0], f"seed {seed}: it was done before it could be killed"
    assert finish(start(request, tmp_path / "killed")) == 0, f"seed {seed}"
    assert finish(quiet) == 0
    assert sha256(tmp_path / "killed" / STUDENT) == sha256(tmp_path / "quiet" / STUDENT), (
        f"seed {seed}, kills after {first} and {second} steps"
    )
    # Not the student alone: everyone whom a report or an ensemble speaks of.
    assert same_networks(tmp_path / "killed", tmp_path / "quiet"), f"seed {seed}"
    chosen = [event["runtime"] for event in events_of(tmp_path / "killed", "phase")]
    assert any(each and each.get("resumed_from_step", 0) > 0 for each in chosen)
    assert not any(each and each.get("non_exact") for each in chosen)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_goes_on_exactly(world: World, tmp_path: Path, method: str) -> None:
    teachers = 0 if method == "supervised" else 1
    killed_and_resumed(world, tmp_path, 1, method=method, teachers=teachers, training={"epochs": 2})


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_goes_on_exactly_across_its_phases(
    world: World, tmp_path: Path, scheme: str
) -> None:
    killed_and_resumed(
        world,
        tmp_path,
        1 if scheme == "mutual" else 2,
        scheme=SCHEMES[scheme],
        training={"epochs": 2},
    )


def test_in_bfloat16_it_goes_on_exactly(world: World, tmp_path: Path) -> None:
    killed_and_resumed(world, tmp_path, 1, training={"epochs": 2, "precision": "bfloat16"})


def test_mixed_and_smoothed_labels_go_on_exactly(world: World, tmp_path: Path) -> None:
    killed_and_resumed(world, tmp_path, 1, training=MIXED)


def test_a_sum_of_methods_without_a_teacher_goes_on_exactly_among_peers(
    world: World, tmp_path: Path
) -> None:
    methods = (*as_methods("kd"), *as_methods("attention"))
    killed_and_resumed(
        world,
        tmp_path,
        1,
        teachers=0,
        scheme=SCHEMES["mutual"],
        training={"epochs": 2},
        method=methods,
    )
