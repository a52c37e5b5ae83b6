"""TrainState: how far one phase is, and what it needs to remember of its epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdcore.schema.training import EarlyStopping
from kdcore.training.loop.early_stopping import EarlyStopper


@dataclass
class BestEpoch:
    """The epoch with a student's best validation top-1 so far, the earliest on ties."""

    epoch: int
    top1: float
    weights: dict[str, Tensor]
    """State dict of the plain network, on the CPU."""


@dataclass
class TrainState:
    """Everything that changes during a phase except networks, optimizers and open meters."""

    early_stopper: EarlyStopper
    best: list[BestEpoch | None]
    """For each student; None before its first validation."""
    last_metrics: list[dict[str, float]]
    """For each student the metrics of the last validation."""
    lowest_val_loss: list[float]
    """For each student; infinite before its first validation."""
    last_losses: list[dict[str, float]]
    """For each student the latest point of the loss and of its unweighted terms."""
    epoch: int = 0
    """Completed epochs: trained and validated."""
    step: int = 0
    """Completed steps. While an epoch is validated, all its steps are completed but it is not."""

    @classmethod
    def initial(cls, num_students: int, early_stopping: EarlyStopping | None) -> "TrainState":
        """The state before the first step."""
        return cls(
            EarlyStopper(early_stopping),
            [None for _ in range(num_students)],
            [{} for _ in range(num_students)],
            [math.inf] * num_students,
            [{} for _ in range(num_students)],
        )

    def complete_epoch(
        self, metrics: Sequence[dict[str, float]], improved: dict[int, dict[str, Tensor]]
    ) -> None:
        """Record the ``metrics`` of each student and the weights of the ``improved`` ones."""
        self.epoch += 1
        self.last_metrics = list(metrics)
        losses = [student_metrics["val/loss"] for student_metrics in metrics]
        # NaN is no lower than anything.
        self.lowest_val_loss = [
            loss if loss < lowest else lowest
            for loss, lowest in zip(losses, self.lowest_val_loss, strict=True)
        ]
        for index, weights in improved.items():
            self.best[index] = BestEpoch(self.epoch, metrics[index]["val/top1"], weights)

    def improves(self, student_index: int, top1: float) -> bool:
        """Whether ``top1`` is better than every earlier epoch of the student."""
        best = self.best[student_index]
        return best is None or top1 > best.top1

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": [None if best is None else vars(best) for best in self.best],
            "last_metrics": self.last_metrics,
            "lowest_val_loss": self.lowest_val_loss,
            "last_losses": self.last_losses,
            "early_stopper": self.early_stopper.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.epoch, self.step = state_dict["epoch"], state_dict["step"]
        self.best = [None if best is None else BestEpoch(**best) for best in state_dict["best"]]
        self.last_metrics = state_dict["last_metrics"]
        # Checkpoints of version 0.1.0 have neither.
        self.lowest_val_loss = state_dict.get("lowest_val_loss", self.lowest_val_loss)
        self.last_losses = state_dict.get("last_losses", self.last_losses)
        self.early_stopper.load_state_dict(state_dict["early_stopper"])
