"""An engine in reserve: used once, replaced, never missed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.database import transaction
from store.settings import settings
from store.tables import Job
from tests.sending import posted
from worker import engine, spare

Json = dict[str, Any]
SHORT = {"epochs": 1, "batch_size": 256}


@pytest.fixture(autouse=True)
def none_waits(environment: dict[str, str]) -> Iterator[None]:
    spare.close()
    yield
    spare.close()


def waiting() -> int | None:
    return None if spare._waiting is None else spare._waiting.pid


def test_a_job_takes_it_and_the_slot_has_another(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    engine.reserve()
    first = waiting()
    assert first is not None
    engine.reserve()
    assert waiting() == first
    running = start(posted(client, digits, training=SHORT)["id"])
    running.wait_for(lambda: running.engines != [], "its engine is at work")
    assert running.engines == [first]
    assert running.ends().state == "succeeded", running.row.error
    assert waiting() not in (None, first)


def test_a_training_keeps_every_core_until_it_exports(
    client: httpx.Client, digits: Json, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = posted(client, digits, training=SHORT)["id"]
    phases: list[str | None] = []

    def noted() -> None:
        with transaction() as session:
            phases.append(session.get_one(Job, job_id).phase)

    monkeypatch.setattr(engine, "reserve", noted)
    running = start(job_id)
    assert running.ends().state == "succeeded", running.row.error
    assert phases[0] == "exporting"


def test_one_that_has_died_costs_nothing(client: httpx.Client, digits: Json, start: Any) -> None:
    engine.reserve()
    first = waiting()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    running = start(posted(client, digits, training=SHORT)["id"])
    assert running.ends().state == "succeeded", running.row.error
    assert [run.exit for run in running.runs] == ["done"]


def test_it_knows_no_secret() -> None:
    engine.reserve()
    told = Path(f"/proc/{waiting()}/environ").read_bytes().decode()
    assert "PYTHONSAFEPATH=1" in told
    assert "STILLHOUSE" not in told


def test_it_ends_with_whoever_holds_it(
    environment: dict[str, str], eventually: Callable[[Callable[[], bool], float, str], None]
) -> None:
    program = (
        "import time\n"
        "from worker import engine, spare\n"
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
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 30, "it has ended")


def test_a_folder_that_cannot_be_made_costs_the_spare_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "file" / "work")
    engine.reserve()
    assert waiting() is None
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "not yet" / "there")
    engine.reserve()
    assert waiting() is not None


def test_it_can_be_gone_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "spare_engine", False)
    engine.reserve()
    assert waiting() is None
