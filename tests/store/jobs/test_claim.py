"""Each job is claimed once, the best first; who has lost it can write nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from kdcore.protocol.events import MetricsEvent
from store import event_log, jobs, metric_series
from store.database import transaction
from store.jobs import queue_position
from store.settings import settings
from store.tables import Job, JobEvent, Metric, Run

Claim = Callable[[], Job | None]


def test_highest_priority_goes_first_then_the_oldest(new_job: Any, claim: Claim) -> None:
    low, first, second, high = (new_job(priority) for priority in (-1, 0, 0, 5))
    with transaction() as session:
        waiting = session.scalars(select(Job).where(Job.state == "queued")).all()
        places = queue_position.QueueStatus(session)
        ahead = {job.id: places.jobs_ahead(job) for job in waiting}
    assert ahead == {high: 0, first: 1, second: 2, low: 3}
    claimed = [claim() for _ in range(5)]
    assert [job and job.id for job in claimed] == [high, first, second, low, None]


def test_delayed_job_lets_others_pass(new_job: Any, claim: Claim) -> None:
    first, second = new_job(5), new_job()
    for pause_s, expected in ((60.0, second), (0.0, first)):
        job = claim()
        assert job is not None
        assert job.id == first
        with transaction() as session:
            jobs.release(session, _lock_row(session, job), "storage_retry", pause_s)
        job = claim()
        assert job is not None
        assert job.id == expected
        with transaction() as session:
            jobs.release(session, _lock_row(session, job), "stopped")
            session.get_one(Job, first).not_before = None
    with transaction() as session:
        session.get_one(Job, first).not_before = func.now()
    job = claim()
    assert job is not None
    assert (job.id, job.not_before) == (first, None)


def test_claim_has_a_lease_a_fence_and_a_run(new_job: Any, claim: Claim) -> None:
    new_job()
    job = claim()
    assert job is not None
    assert (job.state, job.num_runs, job.lease_owner) == ("starting", 1, "a worker")
    with transaction() as session:
        assert session.scalar(select(Job.lease_expires_at > func.now()).where(Job.id == job.id))
        run = session.scalars(select(Run).where(Run.job_id == job.id)).one()
    assert (run.number, run.fence, run.exit) == (1, job.fence, None)


WRITES: dict[str, Callable[[Any, Job], object]] = {
    "renew": lambda session, job: jobs.renew_lease(session, job.id, job.fence),
    "begin": lambda session, job: jobs.enter_phase(
        session, _lock_row(session, job), "training", None
    ),
    "metrics": lambda session, job: metric_series.write(
        session, _lock_row(session, job), [METRICS]
    ),
    "event": lambda session, job: event_log.append(session, _lock_row(session, job), "log", {}),
    "succeed": lambda session, job: jobs.succeed(session, _lock_row(session, job), {}, []),
    "fail": lambda session, job: jobs.fail(session, _lock_row(session, job), {}, "x"),
    "release": lambda session, job: jobs.release(session, _lock_row(session, job), "x"),
}
METRICS = MetricsEvent(seq=1, time="", step=1, epoch=1.0, wall_s=1.0, values={"train/loss": 1.0})


def _lock_row(session: Any, job: Job) -> Job:
    return jobs.lock_leased_job(session, job.id, job.fence)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("now", ["claimed_again", "queued", "cancelled", "deleted"])
def test_stale_run_writes_nothing(
    new_job: Any, claim: Claim, expire: Any, row: Any, write: Any, now: str
) -> None:
    job_id = new_job()
    stale = claim()
    expire(job_id)
    with transaction() as session:
        if now == "cancelled":
            assert jobs.cancel(session, session.get_one(Job, job_id, with_for_update=True))
        elif now == "deleted":
            session.delete(session.get_one(Job, job_id))
        else:
            assert jobs.reap_expired_leases(session) == 1
    if now == "claimed_again":
        assert claim() is not None
    before = _all_of(job_id)
    with transaction() as session, pytest.raises(jobs.LeaseLostError):
        write(session, stale)
    assert _all_of(job_id) == before


def _all_of(job_id: str) -> list[object]:
    with transaction() as session:
        return [
            session.execute(select(Job.__table__).where(Job.id == job_id)).all(),
            session.scalar(select(func.count()).where(JobEvent.job_id == job_id)),
            session.scalar(select(func.count()).where(Metric.job_id == job_id)),
        ]


def test_job_that_is_being_cancelled_ends_when_its_worker_is_lost(
    new_job: Any, claim: Claim, expire: Any, row: Any
) -> None:
    job_id = new_job()
    claim()
    with transaction() as session:
        assert not jobs.cancel(session, session.get_one(Job, job_id, with_for_update=True))
    assert row(job_id).state == "cancelling"
    expire(job_id)
    with transaction() as session:
        jobs.reap_expired_leases(session)
    assert row(job_id).state == "cancelled"


def test_concurrent_reapers_count_a_loss_once(
    new_job: Any, claim: Claim, expire: Any, row: Any
) -> None:
    job_ids = [new_job() for _ in range(6)]
    for _ in job_ids:
        claim()
    for job_id in job_ids:
        expire(job_id)

    def reap(_: int) -> int:
        with transaction() as session:
            return jobs.reap_expired_leases(session)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(reap, range(4))) == 6
    assert {row(job_id).lost_runs for job_id in job_ids} == {1}


def test_silent_time_of_a_dead_worker_is_not_device_time(
    new_job: Any, claim: Claim, row: Any
) -> None:
    config = settings()
    for heard_s, worked_s in ((config.lease_s + 1, 100.0), (0.0, 0.0)):
        job_id = new_job()
        job = claim()
        assert job is not None
        with transaction() as session:
            run = session.scalars(select(Run).where(Run.job_id == job_id)).one()
            run.started_at -= timedelta(seconds=heard_s + worked_s)
            leased = _lock_row(session, job)
            assert leased.lease_expires_at is not None
            leased.lease_expires_at -= timedelta(seconds=heard_s)
        with transaction() as session:
            if heard_s:
                assert jobs.reap_expired_leases(session) == 1
            else:
                jobs.release(session, _lock_row(session, job), "stopped")
        if heard_s:
            with transaction() as session:
                (line,) = event_log.list_logs(session, job_id, 9)
            assert "is lost: the worker a worker sent no heartbeat" in line.data["message"]
        spent = row(job_id).device_s
        assert worked_s <= spent <= worked_s + config.heartbeat_s + 1
        with transaction() as session:
            run = session.scalars(select(Run).where(Run.job_id == job_id)).one()
        assert run.ended_at == run.started_at + timedelta(seconds=spent)
        with transaction() as session:
            session.get_one(Job, job_id).state = "cancelled"
