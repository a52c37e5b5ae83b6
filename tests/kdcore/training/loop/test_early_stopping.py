"""A training ends when validation top-1 no longer improves."""

from pathlib import Path
from typing import Any

import pytest

from kdcore.schema.methods.fitnet import FitNet
from kdcore.schema.training_config import EarlyStopping
from kdcore.training.loop.early_stopping import EarlyStopper
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    World,
    events_of,
    log_text,
    metric_values,
    train,
)

HINT_METHOD = FitNet(type="fitnet", stage_one=0.5)
IMPATIENT = {"epochs": 6, "early_stopping": {"patience": 1, "min_delta": 100}}


@pytest.mark.parametrize(
    ("top1", "num_epochs"),
    [
        ([50.0, 50.9, 50.9, 60.0], 3),  # 0.9 points are no improvement
        ([50.0, 51.5, 51.0, 51.0, 60.0], 4),
        ([50.0, 52.0, 54.0, 56.0], 4),
    ],
)
def test_patience_counts_epochs_without_improvement(top1: list[float], num_epochs: int) -> None:
    stopper = EarlyStopper(EarlyStopping(patience=2, min_delta=1.0))
    epochs = 0
    for value in top1:
        stopper.update(value)
        epochs += 1
        if stopper.exhausted:
            break
    assert epochs == num_epochs


def test_state_is_restored() -> None:
    stopper, restored = (EarlyStopper(EarlyStopping(patience=2)) for _ in range(2))
    for value in (50.0, 49.0):
        stopper.update(value)
    restored.load_state_dict(stopper.state_dict())
    restored.update(50.0)
    assert restored.exhausted


def test_a_training_without_improvement_ends_early(world: World, tmp_path: Path) -> None:
    training = {
        "epochs": 30,
        "optimizer": {"type": "sgd", "lr": 1e-12},
        "early_stopping": {"patience": 2, "min_delta": 50},
    }
    workdir = train(world.request(training=training), tmp_path)
    assert len(metric_values(workdir, "val/top1")) == 3
    assert "no longer improves" in log_text(workdir)


def test_patience_starts_after_the_adapter_stage(world: World, tmp_path: Path) -> None:
    workdir = train(world.request((HINT_METHOD,), 1, IMPATIENT), tmp_path)
    # Three epochs of hints, one that sets the best top-1, one without improvement.
    assert len(metric_values(workdir, "val/top1")) == 5


def test_patience_starts_at_once_if_peers_teach_logits(world: World, tmp_path: Path) -> None:
    scheme: dict[str, Any] = {"type": "mutual", "peers": [ARCHITECTURE]}
    workdir = train(world.request((HINT_METHOD,), 1, IMPATIENT, scheme=scheme), tmp_path)
    # One epoch sets the best top-1 and one brings no improvement, both in the adapter stage.
    assert len(metric_values(workdir, "val/top1")) == 2
    metrics = [event["values"] for event in events_of(workdir, "metrics")]
    first = next(values for values in metrics if "train/loss" in values)
    assert {"train/loss/fitnet_hint", "train/loss/peers/kd"} <= set(first)
    assert "train/loss/cross_entropy" not in first
