"""An engine counts as stalled after a pause that is long for this run."""

import os
from pathlib import Path

import pytest

from kdcore.protocol.requests import HEARTBEAT_FILE
from store.settings import settings
from worker.engine.engine_process import PAUSE_FACTOR, StallDetector


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_longest_pause_so_far_decides(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings(), "stall_s", 10.0)
    clock = Clock()
    detector = StallDetector(tmp_path, clock)
    clock.now = 9.0  # the libraries load: that says nothing about pauses at work
    (tmp_path / HEARTBEAT_FILE).touch()
    os.utime(tmp_path / HEARTBEAT_FILE, ns=(1, 10**9))
    detector.update()
    assert (detector.pause_s, detector.max_pause_s) == (0.0, 10.0)
    clock.now = 11.0
    os.utime(tmp_path / HEARTBEAT_FILE, ns=(1, 3 * 10**9))
    detector.update()
    assert detector.max_pause_s == 2.0 * PAUSE_FACTOR
    clock.now = 11.0 + 2.0 * PAUSE_FACTOR + 1.0
    detector.update()
    assert detector.pause_s > detector.max_pause_s
    # Events count, too: a long export has no batches, but events.
    (tmp_path / "events.jsonl").touch()
    detector.update()
    assert detector.pause_s == 0.0
