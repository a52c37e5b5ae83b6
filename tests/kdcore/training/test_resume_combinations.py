"""Exact resume of every method and every scheme: SIGKILL at a random step, then equal bytes."""

import random
from pathlib import Path
from typing import Any

import pytest

from kdcore.schema.methods import METHODS, as_methods
from tests.kdcore.training.engine_process import finish, kill_after, kill_running, start
from tests.kdcore.training.helpers import (
    STEPS_PER_EPOCH,
    STUDENT,
    World,
    assert_same_networks,
    events_of,
    sha256,
)

STEP = '"train/loss"'
MIXED_LABELS = {
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


def assert_resumes_exactly(world: World, tmp_path: Path, num_phases: int, **job: Any) -> None:
    """Kill a run twice at random, the second time near the end of the first phase."""
    request = world.request(**job)
    complete = start(request, tmp_path / "complete")
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    steps = STEPS_PER_EPOCH * request.job.training.epochs
    # From the third step on: before it there may be no checkpoint but that of step 0.
    first = generator.randint(3, steps - 1)
    # In the next phase, or before the end of the only one.
    later = generator.randint(-1, 3)
    second = steps - first + later if num_phases > 1 else generator.randint(1, 4)
    second = max(1, second)
    message = f"seed {seed}, kills after {first} and {second} steps"
    kill_running(request, tmp_path / "killed", STEP, first)
    kill_after(request, tmp_path / "killed", STEP, second)
    assert finish(start(request, tmp_path / "killed")) == 0, message
    assert finish(complete) == 0, message
    assert sha256(tmp_path / "killed" / STUDENT) == sha256(tmp_path / "complete" / STUDENT), message
    # Peers, assistants and baselines, too: reports and ensembles depend on them.
    assert_same_networks(tmp_path / "killed", tmp_path / "complete", message)
    runtimes = [event["runtime"] or {} for event in events_of(tmp_path / "killed", "phase")]
    assert any(runtime.get("resumed_from_step", 0) > 0 for runtime in runtimes)
    assert not any(runtime.get("non_exact") for runtime in runtimes)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_resumes_exactly(world: World, tmp_path: Path, method: str) -> None:
    num_teachers = 0 if method == "supervised" else 1
    training = {"epochs": 2}
    assert_resumes_exactly(
        world, tmp_path, 1, method=method, num_teachers=num_teachers, training=training
    )


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_resumes_exactly_across_phases(
    world: World, tmp_path: Path, scheme: str
) -> None:
    num_phases = 1 if scheme == "mutual" else 2
    training = {"epochs": 2}
    assert_resumes_exactly(world, tmp_path, num_phases, scheme=SCHEMES[scheme], training=training)


@pytest.mark.parametrize("scheme", [None, *sorted(SCHEMES)])
def test_weights_that_a_training_finds_resume_exactly(
    world: World, tmp_path: Path, scheme: str | None
) -> None:
    methods = [
        METHODS[name].model_validate({"type": name, "weight": "auto"}) for name in ("kd", "crd")
    ]
    if scheme == "label_refinery":
        methods = methods[:1]
    assert_resumes_exactly(
        world,
        tmp_path,
        1 if scheme in (None, "mutual") else 2,
        method=tuple(methods),
        scheme=SCHEMES[scheme] if scheme else {"type": "offline"},
        num_teachers=0 if scheme == "mutual" else 1,
        label_weight="auto",
        training={"epochs": 2},
    )


def test_bfloat16_resumes_exactly(world: World, tmp_path: Path) -> None:
    assert_resumes_exactly(world, tmp_path, 1, training={"epochs": 2, "precision": "bfloat16"})


def test_mixed_and_smoothed_labels_resume_exactly(world: World, tmp_path: Path) -> None:
    assert_resumes_exactly(world, tmp_path, 1, training=MIXED_LABELS)


def test_several_methods_between_peers_resume_exactly(world: World, tmp_path: Path) -> None:
    methods = (*as_methods("kd"), *as_methods("attention"))
    assert_resumes_exactly(
        world,
        tmp_path,
        1,
        num_teachers=0,
        scheme=SCHEMES["mutual"],
        training={"epochs": 2},
        method=methods,
    )
