"""What an engine may do to its worker: pause, chatter, fill the disk."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kdcore.protocol.requests import HEARTBEAT_FILE, IngestRequest
from store.settings import settings
from worker.engine import engine_process, stall_detector

LINE = {"seq": 1, "time": "2026-01-01T00:00:00Z", "type": "log", "level": "info", "message": "x"}


class Clock:
    """The time that a watch sees."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stall_detector, "time", made)
    monkeypatch.setattr(settings(), "stall_s", 10.0)
    return made


def test_a_pause_is_believed_in_by_the_pauses_before_it(clock: Clock, tmp_path: Path) -> None:
    watch = stall_detector.StallDetector(tmp_path)
    clock.now = 9.0  # the libraries load: that says nothing of the work
    (tmp_path / HEARTBEAT_FILE).touch()
    os.utime(tmp_path / HEARTBEAT_FILE, ns=(1, 10**9))
    watch.update()
    assert (watch.pause_s, watch.max_pause_s) == (0.0, 10.0)
    clock.now = 11.0
    os.utime(tmp_path / HEARTBEAT_FILE, ns=(1, 3 * 10**9))
    watch.update()
    assert watch.max_pause_s == 2.0 * stall_detector.PAUSE_FACTOR
    clock.now = 11.0 + 2.0 * stall_detector.PAUSE_FACTOR + 1.0
    watch.update()
    assert watch.pause_s > watch.max_pause_s
    # What it says counts, too: a long export has no batches, but events.
    (tmp_path / "events.jsonl").touch()
    watch.update()
    assert watch.pause_s == 0.0


@pytest.fixture
def ended(environment: dict[str, str], tmp_path: Path) -> Any:
    own = engine_process.EngineProcess(
        "ingest", IngestRequest(source="archive", path="/nowhere"), tmp_path
    )
    own.process.wait(timeout=60)
    own.kill()
    return own


def test_what_piled_up_is_stored_in_small_parts(ended: Any, tmp_path: Path) -> None:
    lines = [json.dumps(LINE | {"seq": number}) + "\n" for number in range(1200)]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    found: list[int] = []
    sizes = []
    while True:
        batch, offset = ended.new_events()
        if not batch:
            break
        sizes.append(len(batch))
        found += [event.seq for event in batch]
        ended.accept(offset)
    assert sizes == [200] * 6
    assert found == list(range(1200))


def test_endless_chatter_is_cut(ended: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(engine_process, "STDERR_MOST", 100)
    log = tmp_path / "stderr.log"
    log.write_bytes(b"x" * 101)
    ended.tend()
    assert log.stat().st_size == 0
    log.write_bytes(b"the end")
    ended.tend()
    assert ended.last_words() == "the end"
