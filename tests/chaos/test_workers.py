"""Workers that are stopped, thawed too late, hung, shut down, or have no disk space."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from tests.chaos.arena import TRAINERS, Arena
from tests.chaos.checker import Checker
from tests.chaos.workload import Client

pytestmark = pytest.mark.timeout(600)

Holds = Callable[..., None]


def worker_of(arena: Arena, client: Client, job: str) -> str:
    """The part that has a job in training."""
    checker = Checker(arena)
    query = (
        "SELECT lease_owner FROM jobs WHERE id = %s AND phase = 'training' AND lease_owner <> ''"
    )
    arena.until(lambda: bool(checker.rows(query, job)), 120, "the job trains")
    row = checker.rows("SELECT worker FROM runs WHERE job_id = %s ORDER BY number DESC", job)[0]
    pid = int(row["worker"].rpartition("/")[2])
    for part in TRAINERS:
        if os.getpgid(pid) == arena.pid(part):
            return part
    raise AssertionError(row)


def test_zombie_publishes_nothing(arena: Arena, client: Client, recipe: Any, holds: Holds) -> None:
    """Stopped past its lease and continued: another has the job, and the student is the same."""
    arena.arm("engine.check_cancelled", "sleep 10")  # it trains until the worker is frozen
    job = client.submit(recipe)
    part = worker_of(arena, client, job)
    second_run = "SELECT 1 FROM runs WHERE job_id = %s AND number = 2"
    checker = Checker(arena)
    with arena.freeze(part):
        arena.until(lambda: bool(checker.rows(second_run, job)), 120, "another worker has the job")
    holds(client)
    exits = [run["exit"] for run in client.insist("GET", f"/v1/jobs/{job}/runs").json()["data"]]
    assert sorted(exits) == ["done", "lost"]


def test_worker_that_shuts_down_requeues_its_job(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    arena.arm("engine.check_cancelled", "sleep 3")
    job = client.submit(recipe)
    part = worker_of(arena, client, job)
    pid = arena.pid(part)
    os.kill(pid, signal.SIGTERM)
    arena.until(lambda: not Path(f"/proc/{pid}").exists(), 60, "the worker has ended")
    holds(client)
    row = Checker(arena).rows("SELECT lost_runs FROM jobs WHERE id = %s", job)[0]
    assert row["lost_runs"] == 0


def test_engine_that_hangs_is_ended(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    arena.arm("engine.check_cancelled", "sleep 3600")
    job = client.submit(recipe)
    arena.until(lambda: not arena.armed, 120, "an engine hangs")
    holds(client)
    exits = [run["exit"] for run in client.insist("GET", f"/v1/jobs/{job}/runs").json()["data"]]
    assert exits == ["stalled", "done"]


def test_damaged_checkpoint_is_passed_by(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    job = client.submit(recipe)
    url = f"/v1/jobs/{job}"
    arena.arm("worker.uploaded", "sleep 600")  # all is stored but the row of the result
    part = worker_of(arena, client, job)
    arena.until(lambda: not arena.armed, 120, "it is about to publish")
    arena.kill(part)
    checker = Checker(arena)
    newest = "SELECT * FROM checkpoints WHERE job_id = %s ORDER BY step DESC LIMIT 1"
    row = checker.rows(newest, job)[0]
    obstore.put(checker.store, row["object_key"], b"x" * row["size_bytes"])
    holds(client)
    log_events = client.insist("GET", f"{url}/events?type=log").json()["data"]
    assert [
        event for event in log_events if f"{row['name']} cannot be used" in event["data"]["message"]
    ]
    runs = client.insist("GET", f"{url}/runs").json()["data"]
    assert (runs[-1]["resumed_from_step"] or 0) < row["step"]


def test_full_disk_fails_the_job_and_harms_nothing(
    arena: Arena, client: Client, recipe: Any, holds: Holds, tmp_path: Path
) -> None:
    """In a mount namespace of its own a worker has a work folder of half a megabyte."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        # Mounting needs root, which no installation can give, so CI skips it too.
        pytest.skip("needs to be root to mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    mounted = (
        *("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c"),
        *(f'mount -t tmpfs -o size=600k none {small} && exec "$@"', "sh"),
    )
    for part in TRAINERS:  # so that the small one takes the job
        os.killpg(arena.pid(part), signal.SIGSTOP)
    cramped = arena.apart(
        "cramped", *mounted, STILLHOUSE_WORK_DIR=str(small), STILLHOUSE_MIN_FREE_BYTES="0"
    )
    try:
        job = client.submit(recipe)
        arena.until(lambda: client.state(job) == "failed", 120, "the job has failed")
        error = client.insist("GET", f"/v1/jobs/{job}").json()["error"]
        assert (error["code"], error["retryable"]) == ("storage_unavailable", True), error
    finally:
        os.killpg(cramped.pid, signal.SIGKILL)
        cramped.wait()
        for part in TRAINERS:
            os.killpg(arena.pid(part), signal.SIGCONT)
    holds(client)
