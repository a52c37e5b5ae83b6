"""Recipes and callbacks that tests of runs share."""

from typing import Any

from kdcore.protocol.events import EngineEvent
from kdcore.runtime.cancellation import CancellationToken

QUICK_TRAINING = {"epochs": 1, "batch_size": 256}
QUIET = {"progress": False, "threads": 1}
"""Keywords of :func:`kdcore.distill`: no output, one thread."""


def digits_recipe(dataset: object, **fields: Any) -> dict[str, Any]:
    """A supervised resnet8 on one thread."""
    recipe = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(dataset), "threads": 1}
    return recipe | fields


def ignore_event(_event: EngineEvent) -> None:
    """A callback that does nothing."""


class CancelAfterEpoch(CancellationToken):
    """A token, and a callback that cancels it after the validation of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def __call__(self, event: EngineEvent) -> None:
        if event.type == "metrics" and "val/top1" in event.values and event.epoch >= self.epoch:
            self.cancel()
