"""A job that would fail in a later phase fails before its first step."""

from pathlib import Path
from typing import Any

import pytest

from kdcore.runtime.errors import UserError
from kdcore.schema.methods.fitnet import FitNet
from kdcore.schema.methods.fsp import FSP
from kdcore.training import run
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    World,
    assert_same_networks,
    events_of,
    metric_names,
    train,
    trained_weights,
    with_fields,
)

ASSISTED = {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}
ONE_EPOCH = {"epochs": 1}


def assert_fails_before_training(request: Any, workdir: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(request, workdir)
    assert caught.value.code == "student_incompatible"
    assert metric_names(workdir) <= {"teacher/top1"}
    assert not events_of(workdir, "checkpoint")


@pytest.mark.parametrize(
    ("scheme", "num_teachers"),
    [
        (ASSISTED, 1),
        ({"type": "label_refinery", "max_rounds": 1}, 0),
        ({"type": "born_again", "generations": 2}, 0),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else str(value),
)
def test_unknown_feature_layers_fail_early(
    world: World, tmp_path: Path, scheme: dict[str, Any], num_teachers: int
) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer9"]}
    request = world.request("nst", num_teachers, ONE_EPOCH, student=student, scheme=scheme)
    assert_fails_before_training(request, tmp_path, "layer9")


def test_an_impossible_derivation_fails_early(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "derive": "teacher", "groups": 3}
    request = world.request("kd", 1, ONE_EPOCH, student=student, scheme=ASSISTED)
    assert_fails_before_training(request, tmp_path, "groups")


def test_initial_weights_of_another_network_fail_early(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "derive": "teacher", "groups": 4}
    request = world.request("kd", 1, ONE_EPOCH, student=student, scheme=ASSISTED)
    request = with_fields(request, init=world.model(world.teacher))
    assert_fails_before_training(request, tmp_path, "not those of")


@pytest.mark.parametrize("method", [FitNet(type="fitnet", tap=1), FSP(type="fsp")], ids=str)
def test_too_few_feature_maps_fail_early(world: World, tmp_path: Path, method: Any) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer3"]}
    request = world.request((method,), 1, ONE_EPOCH, student=student, scheme=ASSISTED)
    assert_fails_before_training(request, tmp_path, "tap is 1|2 feature map")


def test_a_dry_run_changes_no_result(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = world.request("crd", 1, ONE_EPOCH, scheme=ASSISTED, evaluation={"baseline": True})
    with_dry_run = train(request, tmp_path / "with")
    monkeypatch.setattr(run, "dry_run", lambda *_: None)
    without = train(request, tmp_path / "without")
    assert len(trained_weights(without)) == 3
    assert_same_networks(with_dry_run, without)
