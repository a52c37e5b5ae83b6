"""A run that is stopped, killed or robbed of its lease leaves the job as it should be."""

import os
import shutil
import signal
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
from store.tables import Job, JobEvent, Model, Run, Worker
from tests.helpers import assert_problem, issue_codes, submit_job
from worker import executor, shutdown
from worker.lease import Lease

Json = dict[str, Any]
LONG = {"epochs": 2000, "batch_size": 256}
RESUMED = {"epochs": 15, "batch_size": 64}


@pytest.fixture
def draining() -> Iterator[Any]:
    """Tell the slots of this process to stop, as Celery's shutdown does."""
    yield shutdown.request_shutdown
    shutdown._shutdown_requested.clear()


def test_a_job_in_training_is_cancelled(client: httpx.Client, digits: Json, start: Any) -> None:
    own = submit_job(client, digits, training=LONG)["links"]["self"]
    running = start(own.rpartition("/")[2])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    (engine,) = running.engines
    _has_no_secrets(engine)
    _works_in_its_own_folder(engine)
    assert os.getsid(engine) == engine
    answer = client.post(f"{own}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    ended = running.ends()
    assert (ended.state, ended.error, ended.lease_owner) == ("cancelled", None, None)
    assert running.engines == []
    assert client.post(f"{own}/cancel").status_code == 200
    assert [run.exit for run in running.runs] == ["stopped"]
    states = [each["data"]["state"] for each in _events(client, own) if each["type"] == "state"]
    assert states == ["queued", "starting", "running", "cancelling", "cancelled"]


def _has_no_secrets(engine: int) -> None:
    pairs = Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")
    names = {pair.partition(b"=")[0].decode() for pair in pairs if pair}
    assert {"PATH", "HOME"} <= names
    assert not {name for name in names if "STILLHOUSE" in name}
    assert not {name for name in names if any(bad in name for bad in ("KEY", "SECRET", "TOKEN"))}
    values = b"\0".join(pairs)
    for setting in ("STILLHOUSE_DATABASE_URL", "STILLHOUSE_SECRET_KEY", "STILLHOUSE_BROKER_URL"):
        assert os.environ[setting].encode() not in values


def _works_in_its_own_folder(engine: int) -> None:
    words = Path(f"/proc/{engine}/cmdline").read_bytes().decode().split("\0")
    assert words[1:4] == ["-m", "kdcore", "run"]
    workdir = Path(f"/proc/{engine}/cwd").readlink()
    assert str(workdir).startswith(os.environ["STILLHOUSE_WORK_DIR"])


def _events(client: httpx.Client, own: str) -> list[Json]:
    page = client.get(f"{own}/events", params={"limit": 200}).raise_for_status().json()
    found: list[Json] = page["data"]
    return found


def test_a_job_that_was_killed_and_paused_ends_with_the_same_bytes(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    killed = submit_job(client, digits, training=RESUMED, name="the same")["id"]
    running = start(killed)
    running.wait_for(lambda: running.checkpoints != [], "it has a checkpoint")
    assert running.row.state == "running"
    for engine in running.engines:
        os.kill(engine, signal.SIGKILL)
    running.wait_for(lambda: running.row.num_runs == 2, "it is taken again")
    running.wait_for(lambda: running.row.phase == "training", "it trains again")
    _is_paused_and_resumed(client, running)
    running = start(killed)
    assert running.ends().state == "succeeded", running.row.error
    first, second, last = running.runs
    assert (first.exit, first.resumed_from_step) == ("lost", None)
    assert (second.exit, last.exit) == ("stopped", "done")
    assert (last.resumed_from_step or 0) > 0
    whole = submit_job(client, digits, training=RESUMED, name="the same")["id"]
    uninterrupted = start(whole)
    assert uninterrupted.ends().state == "succeeded"
    assert len(uninterrupted.runs) == 1
    one, other = (client.get(f"/v1/jobs/{each}/student").content for each in (killed, whole))
    assert len(one) > 100_000
    assert one == other
    steps = [
        client.get(f"/v1/jobs/{each}/metrics?keys=val/top1").json()["data"]["val/top1"]
        for each in (killed, whole)
    ]
    assert steps[0] == steps[1]


def _is_paused_and_resumed(client: httpx.Client, running: Any) -> None:
    own = f"/v1/jobs/{running.id}"
    paused = client.post(f"{own}/pause")
    assert (paused.status_code, paused.json()["state"]) == (202, "pausing")
    assert running.ends().state == "paused"
    assert running.engines == []
    assert client.post(f"{own}/pause").status_code == 200
    assert assert_problem(client.post(f"{own}/retry"), 409)["current_state"] == "paused"
    resumed = client.post(f"{own}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "queued")


def test_a_slot_that_shuts_down_gives_its_job_back(
    client: httpx.Client, digits: Json, start: Any, draining: Any
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    draining()
    given_back = running.ends()
    assert (given_back.state, given_back.lost_runs, given_back.lease_owner) == ("queued", 0, None)
    assert [run.exit for run in running.runs] == ["stopped"]
    assert running.checkpoints


@pytest.mark.usefixtures("empty_queue")
@pytest.mark.parametrize("wish", ["drain", "pause", "cancel"])
def test_a_run_is_let_go_while_it_fetches(
    client: httpx.Client, digits: Json, draining: Any, wish: str
) -> None:
    job_id = submit_job(client, digits)["id"]
    shutil.rmtree(settings().work_dir / "cache", ignore_errors=True)
    with transaction() as session:
        job = jobs.claim(session, "train", "a worker")
    assert job is not None
    lease = Lease(job.id, job.fence)
    if wish == "drain":
        draining()
    else:
        assert client.post(f"/v1/jobs/{job_id}/{wish}").status_code == 202
        lease.desired_state = wish
    workdir = settings().work_dir / "runs" / job.id
    workdir.mkdir(parents=True)
    executor._execute(job, workdir, lease)
    assert list((settings().work_dir / "cache").glob("*")) == []
    with transaction() as session:
        row = session.get_one(Job, job_id)
        assert [run.exit for run in session.query(Run).where(Run.job_id == job_id)] == ["stopped"]
    assert row.state == {"drain": "queued", "pause": "paused", "cancel": "cancelled"}[wish]
    assert not (workdir / "events.jsonl").exists()


def test_a_stop_before_the_engine_listens_is_no_loss(
    client: httpx.Client, digits: Json, start: Any, draining: Any
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.engines != [], "the engine is started")
    draining()
    given_back = running.ends()
    assert (given_back.state, given_back.lost_runs) == ("queued", 0)
    assert [run.exit for run in running.runs] == ["stopped"]


def test_a_run_that_lost_its_lease_stops_and_writes_nothing(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    running = start(submit_job(client, digits, training=LONG)["id"])
    running.wait_for(lambda: running.row.phase == "training", "it trains")
    with transaction() as session:
        past = func.now() - func.make_interval(0, 0, 0, 1)
        session.execute(update(Job).where(Job.id == running.id).values(lease_expires_at=past))
        assert jobs.reap_expired_leases(session) == 1
        taken = jobs.claim(session, "train", "another worker")
        assert taken is not None
        assert taken.id == running.id
    told = _number_of_events(running.id)
    running.ends()
    assert running.engines == []
    assert _number_of_events(running.id) == told
    held = running.row
    assert (held.state, held.lease_owner, held.num_runs) == ("starting", "another worker", 2)
    assert [run.exit for run in running.runs] == ["lost", None]
    with transaction() as session:
        session.execute(update(Job).where(Job.id == running.id).values(lease_expires_at=past))
    answer = client.post(f"/v1/jobs/{running.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


def _number_of_events(job_id: str) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(JobEvent.job_id == job_id)) or 0


def _copy(model: Json, **changes: Any) -> str:
    """A model of the same project that differs in what no client could change."""
    with transaction() as session:
        row = session.get_one(Model, model["id"])
        values = {column.key: getattr(row, column.key) for column in Model.__table__.columns}
        session.add(Model(**values | {"id": (new := new_id("mdl"))} | changes))
    return new


def test_damaged_bytes_of_a_teacher_are_storage_unavailable(
    trained_job: Any, trained_model: Json, start: Any, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(trained_job.student[:-1] + b"\0")
    key = f"prj_x/models/{new_id('art')}"
    object_store.put_file(key, damaged)
    teacher = _copy(trained_model, object_key=key, sha256="ab" * 32)
    job = submit_job(trained_job.client, trained_job.dataset, teachers=[{"model": teacher}])
    start(job["id"]).ends()
    error = trained_job.client.get(job["links"]["self"]).json()["error"]
    assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
    assert error["message"]
    assert_problem(trained_job.client.get(job["links"]["student"]), 409)
    gone = _copy(trained_model, object_key="prj_x/models/gone", sha256="cd" * 32)
    job = submit_job(trained_job.client, trained_job.dataset, teachers=[{"model": gone}])
    start(job["id"]).ends()
    error = trained_job.client.get(job["links"]["self"]).json()["error"]
    assert error["code"] == "storage_unavailable"


def test_an_engine_that_crashes_is_tried_once_more(
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
    ended = running.ends()
    assert [run.exit for run in running.runs] == ["crashed", "crashed"]
    assert (ended.state, ended.error["code"], ended.crashes) == ("failed", "internal", 2)
    assert "twice" in ended.error["message"]
    logs = trained_job.client.get(job["links"]["logs"]).text
    assert logs.count("exit code 1") >= 2


def test_a_workers_sign_of_life_is_seen(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    assert client.get(own).json()["waiting_reason"] == "no worker is running"
    with transaction() as session:
        session.add(Worker(name="w", queue="train", seen_at=func.clock_timestamp()))
    try:
        assert client.get(own).json()["waiting_reason"] != "no worker is running"
    finally:
        with transaction() as session:
            session.delete(session.get_one(Worker, "w"))
    assert time.monotonic() > 0


def test_a_job_at_its_limit_is_given_more_and_goes_on(
    client: httpx.Client, digits: Json, start: Any
) -> None:
    own = submit_job(client, digits, training=RESUMED, limits={"device_s": 0.9})["links"]["self"]
    job_id = own.rpartition("/")[2]
    ended = start(job_id).ends()
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "budget_exhausted")
    assert assert_problem(client.post(f"{own}/retry"), 409)["code"] == "limit_reached"
    more = client.patch(own, json={"limits": {"device_s": 600}}).raise_for_status().json()
    assert more["resolved"]["limits"] == {"wall_s": None, "device_s": 600.0}
    assert more["limits"] == more["resolved"]["limits"]
    assert set(issue_codes(client.patch(own, json={"limits": {"device_s": 0}}))) == {
        "/limits/device_s"
    }
    assert client.post(f"{own}/retry").json()["state"] == "queued"
    running = start(job_id)
    assert running.ends().state == "succeeded"
    assert [run.exit for run in running.runs] == ["user_error", "done"]
