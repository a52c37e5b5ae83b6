"""The other networks of a scheme are reported, and generations are exported as one network."""

from pathlib import Path

import pytest

from kdcore.schemes import planner
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    World,
    metric_names,
    metric_values,
    report_of,
    train,
    with_fields,
)

ONE_EPOCH = {"epochs": 1}


def test_peers_have_metrics_and_report_entries(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": ["cifar/resnet14"]}
    workdir = train(world.request("supervised", 0, ONE_EPOCH, scheme=scheme), tmp_path)
    peer_metrics = {"train/loss/peers/kd", "peer1/train/loss/peers/kd", "peer1/val/top1"}
    assert peer_metrics <= metric_names(workdir)
    details = report_of(workdir)["details"]
    assert [network["name"] for network in details["networks"]] == ["student", "peer1"]
    assert details["networks"][1]["architecture"] == "cifar/resnet14"
    assert 0 <= details["ensemble_top1"] <= 100


def test_peers_start_from_random_weights(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": [ARCHITECTURE]}
    request = world.request("supervised", 0, ONE_EPOCH, scheme=scheme)
    request = with_fields(request, init=world.model(world.teacher))
    workdir = train(request, tmp_path)
    # Equal weights would give a divergence of 0.
    assert metric_values(workdir, "train/loss/peers/kd")[0] > 0.1


def test_generations_are_exported_as_one_network(world: World, tmp_path: Path) -> None:
    scheme = {"type": "born_again", "generations": 2, "export_ensemble": True}
    request = world.request("kd", 1, ONE_EPOCH, scheme=scheme)
    assert planner.scheme_of(request.job).exports_ensemble(request.job)
    workdir = train(request, tmp_path)
    report = report_of(workdir)
    exports = report["ensemble_exports"]
    assert set(exports) == {"onnx", "exported_program"}
    assert (workdir / "artifacts" / "ensemble.onnx").exists()
    assert exports["onnx"]["top1"] == pytest.approx(report["details"]["ensemble_top1"])
