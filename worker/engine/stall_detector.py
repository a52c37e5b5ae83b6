"""StallDetector: whether an engine still makes progress; each batch is a sign of life."""

import time
from collections.abc import Callable
from pathlib import Path

from kdcore.protocol.requests import HEARTBEAT_FILE
from store.settings import settings

PAUSE_FACTOR = 20
"""Times the longest pause of the run so far: the end of an epoch takes longer than a step."""


class StallDetector:
    """Compares the time since the last sign of life with the earlier pauses of the same run."""

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files = (workdir / HEARTBEAT_FILE, workdir / "events.jsonl")
        self._last_signs = self._signs()
        self._since = clock()
        self._longest_s = 0.0

    def update(self) -> None:
        """Look at the engine's files for signs of life since the last call."""
        signs = self._signs()
        if signs == self._last_signs:
            return
        # The files' times count, because this process may have been busy with an upload. The first
        # sign is left out: the time to load the libraries says nothing about pauses at work.
        if self._last_signs[0]:
            self._longest_s = max(self._longest_s, (max(signs) - max(self._last_signs)) / 1e9)
        self._last_signs, self._since = signs, self._clock()

    @property
    def pause_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._since

    @property
    def max_pause_s(self) -> float:
        """Seconds without a sign of life after which the engine counts as stalled."""
        return max(settings().stall_s, PAUSE_FACTOR * self._longest_s)

    def _signs(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in self._files)
