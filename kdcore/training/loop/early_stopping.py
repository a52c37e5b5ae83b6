"""What a training remembers of its epochs: the best one of each pupil, and when to stop early."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdcore.schema.training import EarlyStopping
from kdcore.training.compute.device import memory_bytes


@dataclass
class BestEpoch:
    """The epoch with the best validation top-1 so far, the earliest on ties."""

    epoch: int
    top1: float
    weights: dict[str, Tensor]


class EarlyStopper:
    """Counts epochs without an improvement of the delivered network's validation top-1."""

    def __init__(self, spec: EarlyStopping | None) -> None:
        self._spec = spec
        self._best_top1 = float("-inf")
        self._epochs_since_best = 0

    def update(self, top1: float) -> None:
        """One more epoch was validated."""
        if self._spec is None:
            return
        if top1 > self._best_top1 + self._spec.min_delta or self._best_top1 == float("-inf"):
            self._best_top1, self._epochs_since_best = top1, 0
        else:
            self._epochs_since_best += 1

    @property
    def exhausted(self) -> bool:
        """Whether to stop now."""
        return self._spec is not None and self._epochs_since_best >= self._spec.patience

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"mark": self._best_top1, "since": self._epochs_since_best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._best_top1, self._epochs_since_best = state_dict["mark"], state_dict["since"]


@dataclass
class Throughput:
    """Seconds of training since the last reading, and what of it went into batches."""

    samples: int = 0
    data_s: float = 0.0
    busy_s: float = 0.0

    def read_and_reset(self, device: torch.device) -> dict[str, float]:
        """Throughput, the share of time spent on data in percent, and the memory in use."""
        busy = max(self.busy_s, 1e-9)
        values = {
            "train/images_per_s": self.samples / busy,
            "train/data_share": 100 * self.data_s / busy,
            "train/memory_bytes": memory_bytes(device),
        }
        self.samples, self.data_s, self.busy_s = 0, 0.0, 0.0
        return values
