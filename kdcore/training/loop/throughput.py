"""Throughput: images per second, the share of time spent on data, and memory in use."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kdcore.training.compute.device import memory_bytes


@dataclass
class Throughput:
    """Times the steps of a training between two points of its curves."""

    num_samples: int = 0
    data_s: float = 0.0
    """Seconds spent on loading and augmenting batches."""
    busy_s: float = 0.0
    """Seconds spent on steps, loading included, validation and checkpoints excluded."""

    @contextlib.contextmanager
    def measure_step(self) -> Iterator[None]:
        """Count the time of the block as part of a step."""
        started = time.perf_counter()
        yield
        self.busy_s += time.perf_counter() - started

    @contextlib.contextmanager
    def measure_data(self) -> Iterator[None]:
        """Count the time of the block as loading."""
        started = time.perf_counter()
        yield
        self.data_s += time.perf_counter() - started

    def read_and_reset(self, device: torch.device) -> dict[str, float]:
        """Metrics since the last call: images per second, data share in percent, memory bytes."""
        busy_s = max(self.busy_s, 1e-9)
        values = {
            "train/images_per_s": self.num_samples / busy_s,
            "train/data_share": 100 * self.data_s / busy_s,
            "train/memory_bytes": memory_bytes(device),
        }
        self.num_samples, self.data_s, self.busy_s = 0, 0.0, 0.0
        return values
