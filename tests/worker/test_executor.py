"""Runs that are stopped, killed or lose their lease, and the state of their jobs after that."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from store import jobs, object_store
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Job, JobEvent, Model, Run, Worker
from tests.helpers import assert_problem, issue_codes, submit_job
from worker.executor import JobRun, WorkerLoop
from worker.finalize import finalize_run
from worker.heartbeat import Lease
from worker.run_result import RunEnd, RunResult
from worker.shutdown import ShutdownFlag

Json = dict[str, Any]
LONG = {"epochs": 2000, "batch_size": 256}
RESUMED = {"epochs": 40, "batch_size": 64}  # it must still train when a test pauses it


def test_job_is_cancelled_while_it_trains(client: httpx.Client, digits: Json, start: Any) -> None:
    url = submit_job(client, digits, training=LONG)["links"]["self"]
    running = start(url.rpartition("/")[2])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    (engine,) = running.engine_pids
    _assert_no_secrets(engine)
    _assert_working_folder(engine)
    assert os.getsid(engine) == engine
    response = client.post(f"{url}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "cancelling")
    ended = running.wait_until_idle()
    assert (ended.state, ended.error, ended.lease_owner) == ("cancelled", None, None)
    assert running.engine_pids == []
    assert client.post(f"{url}/cancel").status_code == 200
    assert [run.exit for run in running.runs] == ["stopped"]
    state_events = [event for event in _events(client, url) if event["type"] == "state"]
    states = [event["data"]["state"] for event in state_events]
    assert states == ["queued", "starting", "running", "cancelling", "cancelled"]


def _assert_no_secrets(engine: int) -> None:
    pairs = Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")
    names = {pair.partition(b"=")[0].decode() for pair in pairs if pair}
    assert {"PATH", "HOME"} <= names
    assert not {name for name in names if "STILLHOUSE" in name}
    assert not {name for name in names if any(bad in name for bad in ("KEY", "SECRET", "TOKEN"))}
    values = b"\0".join(pairs)
    for setting in ("STILLHOUSE_DATABASE_URL", "STILLHOUSE_SECRET_KEY", "STILLHOUSE_BROKER_URL"):
        assert os.environ[setting].encode() not in values


def _assert_working_folder(engine: int) -> None:
    words = Path(f"/proc/{engine}/cmdline").read_bytes().decode().split("\0")
    assert words[1:4] == ["-m", "kdcore", "run"]
    workdir = Path(f"/proc/{engine}/cwd").readlink()
    assert str(workdir).startswith(os.environ["STILLHOUSE_WORK_DIR"])


def _events(client: httpx.Client, url: str) -> list[Json]:
    page = client.get(f"{url}/events", params={"limit": 200}).raise_for_status().json()
    events: list[Json] = page["data"]
    return events


def test_killed_and_paused_job_ends_with_the_same_bytes(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    killed = submit_job(client, digits, training=RESUMED, name="the same")["id"]
    running = start(killed)
    running.wait_for(lambda: running.checkpoints != [], "it has a checkpoint")
    assert running.row.state == "running"
    for engine in running.engine_pids:
        os.kill(engine, signal.SIGKILL)
    running.wait_for(lambda: running.row.num_runs == 2, "it is taken again")
    running.wait_for(lambda: running.row.phase == "training", "it trains again")
    assert_pause_and_resume(client, running)
    running = start(killed)
    assert running.wait_until_idle().state == "succeeded", running.row.error
    first, second, last = running.runs
    assert (first.exit, first.resumed_from_step) == ("lost", None)
    assert (second.exit, last.exit) == ("stopped", "done")
    assert (last.resumed_from_step or 0) > 0
    undisturbed = submit_job(client, digits, training=RESUMED, name="the same")["id"]
    uninterrupted = start(undisturbed)
    assert uninterrupted.wait_until_idle().state == "succeeded"
    assert len(uninterrupted.runs) == 1
    one, other = (
        client.get(f"/v1/jobs/{job_id}/student").content for job_id in (killed, undisturbed)
    )
    assert len(one) > 100_000
    assert one == other
    steps = [
        client.get(f"/v1/jobs/{job_id}/metrics?keys=val/top1").json()["data"]["val/top1"]
        for job_id in (killed, undisturbed)
    ]
    assert steps[0] == steps[1]


def assert_pause_and_resume(client: httpx.Client, running: Any) -> None:
    url = f"/v1/jobs/{running.id}"
    paused = client.post(f"{url}/pause")
    assert (paused.status_code, paused.json()["state"]) == (202, "pausing")
    assert running.wait_until_idle().state == "paused"
    assert running.engine_pids == []
    assert client.post(f"{url}/pause").status_code == 200
    assert assert_problem(client.post(f"{url}/retry"), 409)["current_state"] == "paused"
    resumed = client.post(f"{url}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "queued")


def test_slot_that_shuts_down_requeues_its_job(
    client: httpx.Client, digits: Json, start: Any, shutdown_flag: ShutdownFlag
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    shutdown_flag.request()
    requeued = running.wait_until_idle()
    assert (requeued.state, requeued.lost_runs, requeued.lease_owner) == ("queued", 0, None)
    assert [run.exit for run in running.runs] == ["stopped"]
    assert running.checkpoints


@pytest.mark.usefixtures("empty_queue")
@pytest.mark.parametrize("action", ["shutdown", "pause", "cancel"])
def test_run_stops_while_it_fetches(
    client: httpx.Client, digits: Json, slot: WorkerLoop, shutdown_flag: ShutdownFlag, action: str
) -> None:
    job_id = submit_job(client, digits)["id"]
    shutil.rmtree(settings().work_dir / "cache", ignore_errors=True)
    with transaction() as session:
        job = jobs.claim(session, "train", "a worker")
    assert job is not None
    lease = Lease(job.id, job.fence)
    if action == "shutdown":
        shutdown_flag.request()
    else:
        assert client.post(f"/v1/jobs/{job_id}/{action}").status_code == 202
        lease.desired_state = action
    workdir = settings().work_dir / "runs" / job.id
    workdir.mkdir(parents=True)
    result = JobRun(job, workdir, lease, slot.pool, shutdown_flag).execute()
    finalize_run(job, result, workdir)
    assert list((settings().work_dir / "cache").glob("*")) == []
    with transaction() as session:
        row = session.get_one(Job, job_id)
        assert [run.exit for run in session.query(Run).where(Run.job_id == job_id)] == ["stopped"]
    assert row.state == {"shutdown": "queued", "pause": "paused", "cancel": "cancelled"}[action]
    assert not (workdir / "events.jsonl").exists()


def test_stop_before_the_engine_handles_signals_is_not_a_loss(
    client: httpx.Client, digits: Json, start: Any, shutdown_flag: ShutdownFlag
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.engine_pids != [], "the engine is started")
    shutdown_flag.request()
    requeued = running.wait_until_idle()
    assert (requeued.state, requeued.lost_runs) == ("queued", 0)
    assert [run.exit for run in running.runs] == ["stopped"]


def test_run_that_lost_its_lease_stops_and_writes_nothing(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    with transaction() as session:
        past = func.now() - func.make_interval(0, 0, 0, 1)
        session.execute(update(Job).where(Job.id == running.id).values(lease_expires_at=past))
        assert jobs.reap_expired_leases(session) == 1
        claimed = jobs.claim(session, "train", "another worker")
        assert claimed is not None
        assert claimed.id == running.id
    num_events = _number_of_events(running.id)
    running.wait_until_idle()
    assert running.engine_pids == []
    assert _number_of_events(running.id) == num_events
    row = running.row
    assert (row.state, row.lease_owner, row.num_runs) == ("starting", "another worker", 2)
    assert [run.exit for run in running.runs] == ["lost", None]
    with transaction() as session:
        session.execute(update(Job).where(Job.id == running.id).values(lease_expires_at=past))
    response = client.post(f"/v1/jobs/{running.id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")


def _number_of_events(job_id: str) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(JobEvent.job_id == job_id)) or 0


def _copy(model: Json, **changes: Any) -> str:
    """A model of the same project that differs in what no client could change."""
    with transaction() as session:
        row = session.get_one(Model, model["id"])
        values = {column.key: getattr(row, column.key) for column in Model.__table__.columns}
        session.add(Model(**values | {"id": (model_id := new_id("mdl"))} | changes))
    return model_id


def test_damaged_bytes_of_a_teacher_fail_the_job_as_storage_unavailable(
    trained_job: Any, trained_model: Json, start: Any, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(trained_job.student[:-1] + b"\0")
    key = f"prj_x/models/{new_id('art')}"
    object_store.put_file(key, damaged)
    teacher = _copy(trained_model, object_key=key, sha256="ab" * 32)
    job = submit_job(trained_job.client, trained_job.dataset, teachers=[{"model": teacher}])
    start(job["id"]).wait_until_idle()
    error = trained_job.client.get(job["links"]["self"]).json()["error"]
    assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
    assert error["message"]
    assert_problem(trained_job.client.get(job["links"]["student"]), 409)
    deleted = _copy(trained_model, object_key="prj_x/models/gone", sha256="cd" * 32)
    job = submit_job(trained_job.client, trained_job.dataset, teachers=[{"model": deleted}])
    start(job["id"]).wait_until_idle()
    error = trained_job.client.get(job["links"]["self"]).json()["error"]
    assert error["code"] == "storage_unavailable"
    (run,) = trained_job.client.get(job["links"]["runs"]).json()["data"]
    assert run["exit"] == "inputs_unreadable"


@pytest.mark.usefixtures("empty_queue")
def test_run_without_an_object_store_is_queued_again(client: httpx.Client, digits: Json) -> None:
    job = submit_job(client, digits)
    with transaction() as session:
        claimed = jobs.claim(session, "train", "a worker")
    assert claimed is not None
    result = RunResult(RunEnd.STORAGE_UNAVAILABLE, message="no connection")
    finalize_run(claimed, result, settings().work_dir)
    assert client.get(job["links"]["self"]).json()["state"] == "queued"
    (run,) = client.get(job["links"]["runs"]).json()["data"]
    assert run["exit"] == "storage_unavailable"
    assert _events(client, job["links"]["self"])[-1]["data"] == {
        "state": "queued",
        "reason": "storage_unavailable",
    }


def test_job_of_a_crashed_engine_is_tried_once_more(
    trained_job: Any, trained_model: Json, start: Any
) -> None:
    # Two channels: nothing that the API or a verification lets through.
    odd = {"mean": [0.5, 0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5, 0.5]}
    with transaction() as session:
        channels = session.get_one(Model, trained_model["id"]).in_channels
    odd = {name: values[: 3 if channels == 1 else 1] for name, values in odd.items()}
    teacher = _copy(trained_model, normalization=odd)
    job = submit_job(trained_job.client, trained_job.dataset, teachers=[{"model": teacher}])
    running = start(job["id"])
    ended = running.wait_until_idle()
    assert [run.exit for run in running.runs] == ["crashed", "crashed"]
    assert (ended.state, ended.error["code"], ended.crashes) == ("failed", "internal", 2)
    assert "twice" in ended.error["message"]
    logs = trained_job.client.get(job["links"]["logs"]).text
    assert logs.count("exit code 1") >= 2


def test_heartbeat_changes_the_waiting_reason(client: httpx.Client, digits: Json) -> None:
    url = submit_job(client, digits)["links"]["self"]
    assert client.get(url).json()["waiting_reason"] == "no worker is running"
    with transaction() as session:
        session.add(Worker(name="w", queue="train", seen_at=func.clock_timestamp()))
    try:
        assert client.get(url).json()["waiting_reason"] != "no worker is running"
    finally:
        with transaction() as session:
            session.delete(session.get_one(Worker, "w"))


def test_job_at_its_limit_continues_with_a_higher_limit(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    url = submit_job(client, digits, training=RESUMED, limits={"device_s": 0.9})["links"]["self"]
    job_id = url.rpartition("/")[2]
    ended = start(job_id).wait_until_idle()
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "budget_exhausted")
    assert assert_problem(client.post(f"{url}/retry"), 409)["code"] == "limit_reached"
    more = client.patch(url, json={"limits": {"device_s": 600}}).raise_for_status().json()
    assert more["resolved"]["limits"] == {"wall_s": None, "device_s": 600.0}
    assert more["limits"] == more["resolved"]["limits"]
    assert set(issue_codes(client.patch(url, json={"limits": {"device_s": 0}}))) == {
        "/limits/device_s"
    }
    assert client.post(f"{url}/retry").json()["state"] == "queued"
    running = start(job_id)
    assert running.wait_until_idle().state == "succeeded"
    assert [run.exit for run in running.runs] == ["user_error", "done"]
