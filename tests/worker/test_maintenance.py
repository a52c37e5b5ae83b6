"""Maintenance: several processes at once, a dead broker, objects without a row."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from store import jobs, object_store
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Artifact, Job, OutboxMessage, Run
from tests.helpers import submit_job, wait_until
from worker.maintenance.gc import OrphanCollector

Json = dict[str, Any]


def _count_messages() -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0


def _relay(environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", "from worker.maintenance.relay import relay; relay()"]
    subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)


def test_outbox_keeps_messages_while_the_broker_is_down(
    client: httpx.Client, digits: Json, environment: dict[str, str]
) -> None:
    submit_job(client, digits)
    before = _count_messages()
    assert before > 0
    _relay(environment | {"STILLHOUSE_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert _count_messages() == before
    assert submit_job(client, digits)["state"] == "queued"
    _relay(environment)
    assert _count_messages() == 0


@pytest.fixture
def maintenance_processes(environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    fast = environment | {"STILLHOUSE_MAINTENANCE_INTERVAL_S": "0.2"}
    command = [sys.executable, "-m", "worker.maintenance"]
    output = subprocess.DEVNULL
    running = [subprocess.Popen(command, env=fast, stdout=output, stderr=output) for _ in range(2)]
    yield running
    for process in running:
        process.kill()
        process.wait()


def _listens(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the process catches SIGTERM by now."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(text.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_two_processes_repair_every_job_once_and_one_is_enough(
    client: httpx.Client, digits: Json, maintenance_processes: Any
) -> None:
    def lose(priority: int) -> str:
        job_id = str(submit_job(client, digits, priority=priority)["id"])
        with transaction() as session:
            claimed = jobs.claim(session, "train", "a worker that is dead")
            assert claimed is not None
            assert claimed.id == job_id
        with transaction() as session:
            past = update(Job).where(Job.id == job_id)
            session.execute(past.values(lease_expires_at="2026-01-01T00:00:00Z"))
        return job_id

    def is_requeued(job_id: str) -> bool:
        with transaction() as session:
            run = session.scalars(select(Run).where(Run.job_id == job_id)).one()
            job = session.get_one(Job, job_id)
            assert job.lost_runs in (0, 1)
            return job.state == "queued" and run.exit == "lost" and job.lost_runs == 1

    wait_until(lambda: all(map(_listens, maintenance_processes)), 60, "both processes run")
    first = lose(99)
    wait_until(lambda: is_requeued(first), 60, "a lost job is requeued")
    wait_until(lambda: _count_messages() == 0, 60, "the outbox is sent")
    maintenance_processes[0].send_signal(signal.SIGTERM)
    assert maintenance_processes[0].wait(timeout=60) == 0
    second = lose(100)
    wait_until(lambda: is_requeued(second), 60, "the other process works")


def test_only_old_objects_without_a_row_are_deleted(
    client: httpx.Client, digits: Json, tenant: Any, tmp_path: Path
) -> None:
    job_id = submit_job(client, digits)["id"]
    path = tmp_path / "bytes"
    path.write_bytes(b"x")
    old, young, named = (f"{tenant.id}/jobs/{job_id}/1/{new_id('art')}" for _ in range(3))
    for key in (old, young, named):
        object_store.put_file(key, path)
    folder = Path(settings().object_store.removeprefix("file://"))
    past = time.time() - 2 * settings().orphan_grace_s
    for key in (old, named):
        os.utime(folder / key, (past, past))
    with transaction() as session:
        session.add(
            Artifact(
                id=new_id("art"),
                project_id=tenant.id,
                job_id=job_id,
                name="x",
                format="x",
                media_type="x",
                object_key=named,
                sha256="0" * 64,
                size_bytes=1,
                fence=1,
            )
        )
    orphans = OrphanCollector()
    orphans.delete_orphans()
    assert object_store.exists(old), (
        "a row may be on its way: it is seen twice before it is deleted"
    )
    orphans.delete_orphans()
    assert [object_store.exists(key) for key in (old, young, named)] == [False, True, True]
