"""Feature layers: named ones exist, are never dropped, and are the ones that teach."""

from pathlib import Path

import pytest

from kdcore.runtime.errors import UserError
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    World,
    metric_names,
    metric_values,
    train,
    with_teacher,
)

ONE_EPOCH = {"epochs": 1}


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_an_unknown_layer_is_named_in_the_error(world: World, tmp_path: Path, network: str) -> None:
    if network == "student":
        student = {"architecture": ARCHITECTURE, "taps": ["layer1", "layer9"]}
        request = world.request("attention", 1, ONE_EPOCH, student=student)
    else:
        request = with_teacher(world.request("attention", 1, ONE_EPOCH), taps=("layer9",))
    with pytest.raises(UserError, match="layer9"):
        train(request, tmp_path)


@pytest.mark.parametrize("layers", [["layer1", "layer2", "layer3"], ["layer1", "layer2"]])
def test_a_named_layer_is_never_dropped(world: World, tmp_path: Path, layers: list[str]) -> None:
    student = {"architecture": ARCHITECTURE, "taps": layers}
    request = world.request("nst", 1, ONE_EPOCH, student=student)
    with pytest.raises(UserError, match=f"{len(layers)} taps are named .* has 1"):
        train(with_teacher(request, taps=("layer1",)), tmp_path)
    assert not any("train/loss" in name for name in metric_names(tmp_path))


def test_named_layers_replace_the_detected_ones(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer3"]}
    request = world.request("attention", 1, ONE_EPOCH, student=student)
    named = train(with_teacher(request, taps=("layer3",)), tmp_path / "named")
    detected = train(world.request("attention", 1, ONE_EPOCH), tmp_path / "detected")
    losses = [metric_values(run, "train/loss/attention")[0] for run in (named, detected)]
    assert losses[0] != losses[1]


def test_methods_without_feature_maps_ignore_named_layers(world: World, tmp_path: Path) -> None:
    request = with_teacher(world.request("rkd", 1, ONE_EPOCH), taps=("layer9",))
    assert "train/loss/rkd_distance" in metric_names(train(request, tmp_path))
