"""Whether an engine still gets on: it shows a sign of life at every batch."""

import time
from pathlib import Path

from kdcore.protocol.requests import HEARTBEAT_FILE
from store.settings import settings

PAUSE_FACTOR = 20
"""Times the longest pause that the run has made so far: an epoch's end takes longer than a step."""


class StallDetector:
    """Compares the pause since the last sign of life with those that this run has made before."""

    def __init__(self, workdir: Path) -> None:
        self._files = (workdir / HEARTBEAT_FILE, workdir / "events.jsonl")
        self._last_signs = self._signs()
        self._since = time.monotonic()
        self._longest_s = 0.0

    def update(self) -> None:
        """Take note of what the engine has shown since the last look."""
        signs = self._signs()
        if signs == self._last_signs:
            return
        # By the times of the signs: this process may have been busy with an upload meanwhile. How
        # long the libraries took to load says nothing of the work.
        if self._last_signs[0]:
            self._longest_s = max(self._longest_s, (max(signs) - max(self._last_signs)) / 1e9)
        self._last_signs, self._since = signs, time.monotonic()

    @property
    def pause_s(self) -> float:
        """How long there has been no sign of life."""
        return time.monotonic() - self._since

    @property
    def max_pause_s(self) -> float:
        """How long a pause is still believed in."""
        return max(settings().stall_s, PAUSE_FACTOR * self._longest_s)

    def _signs(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in self._files)
