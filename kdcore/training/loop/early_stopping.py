"""EarlyStopper: ends a training whose validation top-1 no longer improves."""

from typing import Any

from kdcore.schema.training_config import EarlyStopping


class EarlyStopper:
    """Counts epochs since validation top-1 improved by at least ``min_delta``."""

    def __init__(self, spec: EarlyStopping | None) -> None:
        self._spec = spec
        self._best_top1 = float("-inf")
        self._epochs_since_best = 0

    def update(self, top1: float) -> None:
        """Record the validation top-1 of one more epoch."""
        if self._spec is None:
            return
        if top1 > self._best_top1 + self._spec.min_delta or self._best_top1 == float("-inf"):
            self._best_top1, self._epochs_since_best = top1, 0
        else:
            self._epochs_since_best += 1

    @property
    def exhausted(self) -> bool:
        """Whether ``patience`` epochs brought no improvement."""
        return self._spec is not None and self._epochs_since_best >= self._spec.patience

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {"best_top1": self._best_top1, "epochs_since_best": self._epochs_since_best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self._best_top1 = state_dict["best_top1"]
        self._epochs_since_best = state_dict["epochs_since_best"]
