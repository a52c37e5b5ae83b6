"""What the student cannot do is told before anybody is trained for it."""

from pathlib import Path
from typing import Any

import pytest

from kdcore.runtime.errors import UserError
from kdcore.schema.methods import FSP, FitNet
from kdcore.training import run
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    World,
    events_of,
    networks_of,
    same_networks,
    train,
)

ASSISTED = {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}
QUICK = {"epochs": 1}


def refused(world: World, workdir: Path, words: str, request: Any) -> None:
    with pytest.raises(UserError, match=words) as caught:
        train(request, workdir)
    assert caught.value.code == "student_incompatible"
    told = {name for event in events_of(workdir, "metrics") for name in event["values"]}
    assert told <= {"teacher/top1"}
    assert not events_of(workdir, "checkpoint")


@pytest.mark.parametrize(
    ("scheme", "teachers"),
    [
        (ASSISTED, 1),
        ({"type": "label_refinery", "max_rounds": 1}, 0),
        ({"type": "born_again", "generations": 2}, 0),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else str(value),
)
def test_taps_that_are_not_there(
    world: World, tmp_path: Path, scheme: dict[str, Any], teachers: int
) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer9"]}
    request = world.request("nst", teachers, QUICK, student=student, scheme=scheme)
    refused(world, tmp_path, "layer9", request)


def test_a_student_that_cannot_be_derived(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "derive": "teacher", "groups": 3}
    request = world.request("kd", 1, QUICK, student=student, scheme=ASSISTED)
    refused(world, tmp_path, "groups", request)


def test_weights_of_another_network(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "derive": "teacher", "groups": 4}
    request = world.request("kd", 1, QUICK, student=student, scheme=ASSISTED)
    request = request.model_copy(update={"init": world.model(world.teacher or Path())})
    refused(world, tmp_path, "not those of", request)


@pytest.mark.parametrize("method", [FitNet(type="fitnet", tap=1), FSP(type="fsp")], ids=str)
def test_too_few_maps_for_the_method(world: World, tmp_path: Path, method: Any) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer3"]}
    request = world.request((method,), 1, QUICK, student=student, scheme=ASSISTED)
    refused(world, tmp_path, "tap is 1|2 feature map", request)


def test_a_rehearsal_leaves_no_trace(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network of a job has the weights that it has without one."""
    request = world.request("crd", 1, QUICK, scheme=ASSISTED, evaluation={"baseline": True})
    rehearsed = train(request, tmp_path / "rehearsed")
    monkeypatch.setattr(run, "dry_run", lambda *_: None)
    plain = train(request, tmp_path / "plain")
    assert len(networks_of(plain)) == 3
    assert same_networks(rehearsed, plain)
