"""TrainState: what a phase remembers of its epochs, also from checkpoints of older versions."""

import math

import torch

from kdcore.training.loop.trainer import TrainState


def state_after(losses: list[float]) -> TrainState:
    state = TrainState.initial(1, None)
    for loss in losses:
        state.complete_epoch([{"val/top1": 50.0, "val/loss": loss}], {})
    return state


def test_lowest_validation_loss_is_remembered() -> None:
    assert state_after([3.0, 1.0, 2.0]).lowest_val_loss == [1.0]
    assert state_after([math.nan, 5.0, math.nan, math.inf]).lowest_val_loss == [5.0]
    assert state_after([math.nan]).lowest_val_loss == [math.inf]


def test_state_survives_a_checkpoint() -> None:
    state = state_after([3.0, 1.0])
    state.last_losses = [{"train/loss": 2.0, "train/loss/kd": 1.0}]
    restored = TrainState.initial(1, None)
    restored.load_state_dict(state.state_dict())
    assert restored.state_dict() == state.state_dict()


def test_checkpoint_of_version_0_1_0_is_read() -> None:
    state_dict = state_after([3.0]).state_dict()
    for name in ("lowest_val_loss", "last_losses"):
        del state_dict[name]
    state_dict["best"] = [{"epoch": 1, "top1": 50.0, "weights": {"w": torch.ones(1)}}]
    restored = TrainState.initial(1, None)
    restored.load_state_dict(state_dict)
    assert (restored.epoch, restored.lowest_val_loss) == (1, [math.inf])
    assert restored.best[0] is not None
