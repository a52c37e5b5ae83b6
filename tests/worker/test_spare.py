"""An engine in reserve: used once, replaced, never missed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kdcore.protocol.events import PhaseEvent
from kdcore.protocol.requests import IngestRequest
from store.settings import settings
from tests.helpers import submit_job, wait_until
from worker.engine import engine_process, prewarm

Json = dict[str, Any]
SHORT = {"epochs": 1, "batch_size": 256}


@pytest.fixture(autouse=True)
def none_waits(environment: dict[str, str]) -> Iterator[None]:
    prewarm.discard_prewarmed()
    yield
    prewarm.discard_prewarmed()


def waiting() -> int | None:
    return None if prewarm._prewarmed is None else prewarm._prewarmed.pid


def test_a_job_takes_it_and_the_slot_has_another(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    engine_process.prewarm_engine()
    first = waiting()
    assert first is not None
    engine_process.prewarm_engine()
    assert waiting() == first
    running = start(submit_job(client, digits, training=SHORT)["id"])
    running.wait_for(lambda: running.engines != [], "its engine is at work")
    assert running.engines == [first]
    assert running.ends().state == "succeeded", running.row.error
    assert waiting() not in (None, first)


def test_nothing_is_loaded_while_a_processor_trains_or_is_timed(
    client: httpx.Client, digits: Json, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed is measured while it exports, and stands in the report."""
    job_id = submit_job(client, digits, training=SHORT, exports=["safetensors", "onnx"])["id"]
    told: list[list[str]] = []

    def noted() -> None:
        found = settings().work_dir.glob(f"runs/{job_id}-*/events.jsonl")
        told.append([line for file in found for line in file.read_text().splitlines()])

    monkeypatch.setattr(engine_process, "reserve", noted)
    running = start(job_id)
    assert running.ends().state == "succeeded", running.row.error
    assert len(told) == 2  # and once when the slot finds no more work
    assert any('"type":"artifact"' in line for line in told[0])


@pytest.mark.parametrize(("device", "times"), [("cpu", 0), ("cuda:0", 1)])
def test_with_an_accelerator_there_is_room_while_it_trains(
    device: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engine_process, "reserve", lambda: asked.append(device))
    monkeypatch.setattr(engine_process, "RESERVE_AFTER_S", -1.0)
    own = engine_process.EngineProcess("run", IngestRequest(source="builtin:digits"), tmp_path)
    try:
        own.on_event(PhaseEvent(seq=1, time="", phase="training", runtime={"device": device}))
        own.poll()
        own.poll()
    finally:
        own.kill()
    assert len(asked) == times


def test_one_that_has_died_costs_nothing(client: httpx.Client, digits: Json, start: Any) -> None:
    engine_process.prewarm_engine()
    first = waiting()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    running = start(submit_job(client, digits, training=SHORT)["id"])
    assert running.ends().state == "succeeded", running.row.error
    assert [run.exit for run in running.runs] == ["done"]


def test_it_knows_no_secret() -> None:
    engine_process.prewarm_engine()
    environ = Path(f"/proc/{waiting()}/environ")
    # Popen returns while the kernel still lays the new program out.
    wait_until(lambda: environ.read_bytes() != b"", 10, "it has an environment")
    told = environ.read_bytes().decode()
    assert "PYTHONSAFEPATH=1" in told
    assert "STILLHOUSE" not in told


def test_it_ends_with_whoever_holds_it(environment: dict[str, str]) -> None:
    program = (
        "import time\n"
        "from worker.engine import engine_process as engine, prewarm as spare\n"
        "engine.reserve()\n"
        "print(spare._waiting.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        holder.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30, "it has ended")


def test_a_folder_that_cannot_be_made_costs_the_spare_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "file" / "work")
    engine_process.prewarm_engine()
    assert waiting() is None
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "not yet" / "there")
    engine_process.prewarm_engine()
    assert waiting() is not None


def test_it_can_be_gone_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "prewarm_engine", False)
    engine_process.prewarm_engine()
    assert waiting() is None
