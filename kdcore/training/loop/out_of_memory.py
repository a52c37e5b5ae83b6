"""MicroBatcher: splits batches that exceed the device's memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from kdcore.runtime.errors import OutOfDeviceMemoryError

_T = TypeVar("_T")


class MicroBatcher:
    """Runs batches in parts, and halves the parts when one exceeds the device's memory."""

    def __init__(self) -> None:
        self.num_micro_batches = 1
        """Parts of a batch. It never shrinks: later batches need as much memory."""

    def run(
        self,
        batch_size: int,
        accumulate: Callable[[list[slice]], _T],
        discard: Callable[[], None],
        warn: Callable[[str], None],
    ) -> _T:
        """Return ``accumulate(spans)`` for spans of a batch that fit into memory.

        After a failure ``discard`` drops the partial result and ``warn`` receives a message.
        Raises ``OutOfDeviceMemoryError`` if parts of two samples do not fit.
        """
        while True:
            try:
                return accumulate(self._spans(batch_size))
            except torch.OutOfMemoryError as error:
                self.num_micro_batches *= 2
                if batch_size // self.num_micro_batches < 2:
                    raise OutOfDeviceMemoryError(
                        "out of device memory even with a batch of two"
                    ) from error
            # After the except block, so that the exception no longer holds tensors.
            discard()
            torch.cuda.empty_cache()
            warn(
                f"out of device memory: every batch now runs in {self.num_micro_batches} parts "
                "with accumulated gradients; batch normalization and methods that compare samples "
                "or keep a memory of them see the parts, not the batch"
            )

    def _spans(self, batch_size: int) -> list[slice]:
        # The short last batch of an epoch still gives every part two samples.
        num_parts = min(self.num_micro_batches, max(1, batch_size // 2))
        parts = torch.arange(batch_size).tensor_split(num_parts)
        return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
