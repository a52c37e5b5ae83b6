"""A prewarmed engine is used once, replaced, and never required."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kdcore.protocol.events import ArtifactEvent, PhaseEvent
from kdcore.protocol.requests import IngestRequest
from store.settings import settings
from tests.helpers import submit_job, wait_until
from worker.engine.engine_process import EnginePool
from worker.executor import WorkerLoop

Json = dict[str, Any]
SHORT = {"epochs": 1, "batch_size": 256}
ARTIFACT = ArtifactEvent(
    seq=1,
    time="",
    path="x",
    name="x",
    format="x",
    media_type="x",
    sha256="0" * 64,
    size_bytes=1,
)


@pytest.fixture
def pool(environment: dict[str, str]) -> Iterator[EnginePool]:
    engine_pool = EnginePool(prewarm_delay_s=-1.0)
    yield engine_pool
    engine_pool.close()


def test_job_takes_prewarmed_engine_and_another_follows(
    client: httpx.Client, digits: Json, start: Any, slot: WorkerLoop
) -> None:
    slot.pool.prewarm()
    first = slot.pool.prewarmed_pid
    assert first is not None
    slot.pool.prewarm()
    assert slot.pool.prewarmed_pid == first
    running = start(submit_job(client, digits, training=SHORT)["id"])
    pids: list[int] = []

    def is_at_work() -> bool:
        pids[:] = running.engine_pids
        return pids != []

    running.wait_for(is_at_work, "its engine is at work")
    assert pids == [first]
    assert running.wait_until_idle().state == "succeeded", running.row.error
    assert slot.pool.prewarmed_pid not in (None, first)


def test_nothing_is_loaded_while_a_cpu_trains_or_is_measured(
    pool: EnginePool, tmp_path: Path
) -> None:
    """Latency is measured after training, and the report contains it."""
    engine = pool.start("run", IngestRequest(source="builtin:digits"), tmp_path)
    try:
        for phase in ("training", "evaluating", "exporting"):
            pool.on_event(PhaseEvent(seq=1, time="", phase=phase, runtime={"device": "cpu"}))
            pool.poll()
        assert pool.prewarmed_pid is None
        pool.on_event(ARTIFACT)
        assert pool.prewarmed_pid is not None
    finally:
        engine.kill()


def test_next_engine_loads_while_an_accelerator_trains(pool: EnginePool, tmp_path: Path) -> None:
    engine = pool.start("run", IngestRequest(source="builtin:digits"), tmp_path)
    try:
        pool.on_event(PhaseEvent(seq=1, time="", phase="training", runtime={"device": "cuda:0"}))
        pool.poll()
        first = pool.prewarmed_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: _has_ended(first), 60, "the engine is killed")
        pool.poll()
        pool.on_event(ARTIFACT)
        assert pool.prewarmed_pid == first, "once for each job"
    finally:
        engine.kill()


def _has_ended(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_preparation_does_not_prewarm(pool: EnginePool, tmp_path: Path) -> None:
    engine = pool.start("ingest", IngestRequest(source="builtin:digits"), tmp_path)
    pool.on_event(ARTIFACT)
    engine.kill()
    assert pool.prewarmed_pid is None


def test_job_runs_after_its_prewarmed_engine_was_killed(
    client: httpx.Client, digits: Json, start: Any, slot: WorkerLoop
) -> None:
    slot.pool.prewarm()
    first = slot.pool.prewarmed_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    running = start(submit_job(client, digits, training=SHORT)["id"])
    assert running.wait_until_idle().state == "succeeded", running.row.error
    assert [run.exit for run in running.runs] == ["done"]


def test_prewarmed_engine_has_no_secrets(pool: EnginePool) -> None:
    pool.prewarm()
    environ = Path(f"/proc/{pool.prewarmed_pid}/environ")
    # Popen returns before the kernel has set the new program up.
    wait_until(lambda: environ.read_bytes() != b"", 60, "it has an environment")
    variables = environ.read_bytes().decode()
    assert "PYTHONSAFEPATH=1" in variables
    assert "STILLHOUSE" not in variables


def test_prewarmed_engine_ends_with_its_worker(environment: dict[str, str]) -> None:
    program = (
        "import threading\n"
        "from worker.engine.engine_process import EnginePool\n"
        "pool = EnginePool()\n"
        "pool.prewarm()\n"
        "print(pool.prewarmed_pid, flush=True)\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        holder.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60, "the engine has ended")


def test_missing_work_folder_prevents_only_the_prewarming(
    pool: EnginePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "file" / "work")
    pool.prewarm()
    assert pool.prewarmed_pid is None
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "new" / "work")
    pool.prewarm()
    assert pool.prewarmed_pid is not None


def test_setting_turns_prewarming_off(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "prewarm_engine", False)
    pool.prewarm()
    assert pool.prewarmed_pid is None
