"""LossMeter and Throughput: what steps cost and took, until a point of the curves is due."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.training.compute.device import memory_bytes


class NonFiniteStep(NamedTuple):
    """A step whose loss is infinite or not a number."""

    step: int
    term: str
    """The first term that is not finite."""


class LossMeter:
    """Collects one row per step: the total loss, then its terms.

    Rows are float32 and stay on the device, so that only reading waits for it. The names of the
    terms change only between stages of a training.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._counts: list[int] = []
        self._first_step = 0
        self._num_checked = 0

    def add(self, step: int, names: tuple[str, ...], row: Tensor, count: int) -> None:
        """Add the losses ``row`` (1 + terms,) of ``step``, a mean over ``count`` samples."""
        if not self._rows or names != self._names:
            self._names, self._rows, self._counts = names, [], []
            self._first_step, self._num_checked = step, 0
        self._rows.append(row)
        self._counts.append(count)

    def first_nonfinite(self) -> NonFiniteStep | None:
        """The first step since the last call whose loss is not finite."""
        start, self._num_checked = self._num_checked, len(self._rows)
        if start == len(self._rows):
            return None
        rows = torch.stack(self._rows[start:]).tolist()
        for offset, row in enumerate(rows, start=start):
            broken = [n for n, v in zip(self._names, row[1:], strict=True) if not math.isfinite(v)]
            if broken or not math.isfinite(row[0]):
                return NonFiniteStep(
                    self._first_step + offset, broken[0] if broken else "sum of the terms"
                )
        return None

    def read_and_reset(self) -> dict[str, float]:
        """Means over all samples since the last call, by metric name."""
        if not self._rows:
            return {}
        counts = torch.tensor(self._counts, dtype=torch.float64)
        means = (counts @ self._table().double()) / counts.sum()
        self._rows, self._counts, self._num_checked = [], [], 0
        names = ("train/loss", *(f"train/loss/{name}" for name in self._names))
        return dict(zip(names, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint, so that a resumed training logs the same means."""
        return {
            "names": list(self._names),
            "rows": self._table() if self._rows else None,
            "counts": list(self._counts),
            "first_step": self._first_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        rows: Tensor | None = state_dict["rows"]
        self._names, self._counts = tuple(state_dict["names"]), list(state_dict["counts"])
        self._first_step = state_dict["first_step"]
        self._rows = [] if rows is None else list(rows.to(self._device).unbind())

    def _table(self) -> Tensor:
        return torch.stack(self._rows).cpu()


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
