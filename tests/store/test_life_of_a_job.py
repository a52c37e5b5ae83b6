"""Claims, leases, fences: the rules that keep a job from being lost or done twice."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

LANE = "train"


@pytest.fixture
def project(new_tenant: Callable[[], Any]) -> str:
    from sqlalchemy import update

    from store.database import transaction
    from store.tables import Job

    # What other tests have left queued must not be claimed here.
    with transaction() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="cancelled"))
    return str(new_tenant().id)


@pytest.fixture
def session(project: str) -> Iterator[Session]:
    from store.database import transaction

    with transaction() as opened:
        yield opened


def new_job(session: Session, project: str, **fields: Any) -> Any:
    from store import jobs
    from store.ids import new_id
    from store.tables import Job

    plain: dict[str, Any] = {
        "id": new_id("job"),
        "project_id": project,
        "kind": "distill",
        "lane": LANE,
        "name": "a job",
        "labels": {},
        "priority": 0,
        "spec": {},
        "resolved": {},
        "model_ids": [],
        "methods": ["kd"],
        "summary": {},
    }
    return jobs.create(session, Job(**{**plain, **fields}))


def states(session: Session, job: Any) -> list[str]:
    from store import events

    return [e.data["state"] for e in events.after(session, job.id, 0, 100) if e.type == "state"]


def test_the_highest_priority_is_claimed_first_then_the_oldest(project: str) -> None:
    from store import jobs
    from store.database import transaction

    wanted = []
    for priority in (0, 5, 0):
        with transaction() as session:
            wanted.append((-priority, new_job(session, project, priority=priority).id))
    claimed = []
    for _ in wanted:
        with transaction() as session:
            job = jobs.claim(session, LANE, "w")
            assert job is not None
            claimed.append(job.id)
    assert claimed == [job_id for _, job_id in sorted(wanted, key=lambda pair: pair[0])]
    with transaction() as session:
        assert jobs.claim(session, LANE, "w") is None


def test_many_workers_claim_each_job_once(project: str) -> None:
    from store import jobs
    from store.database import transaction

    with transaction() as session:
        posted = {new_job(session, project).id for _ in range(60)}
    claimed: list[str] = []

    def work() -> None:
        while True:
            with transaction() as session:
                job = jobs.claim(session, LANE, threading.current_thread().name)
                if job is None:
                    return
                claimed.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(posted)


def test_a_stale_run_can_write_nothing(session: Session, project: str) -> None:
    from store import jobs

    new_job(session, project)
    old = jobs.claim(session, LANE, "first")
    assert old is not None
    stale = old.fence
    jobs.release(session, jobs.held(session, old.id, stale), "stopped")
    new = jobs.claim(session, LANE, "second")
    assert new is not None
    assert new.fence == stale + 1
    with pytest.raises(jobs.FencedOut):
        jobs.held(session, old.id, stale)
    with pytest.raises(jobs.FencedOut):
        jobs.renew(session, old.id, stale)
    assert jobs.renew(session, new.id, new.fence) == "run"


def expire(session: Session, job: Any) -> None:
    from store.tables import Job

    session.flush()
    session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(lease_expires_at=func.clock_timestamp() - text("interval '1 s'"))
    )
    session.expire_all()


def test_an_expired_lease_is_taken_back_and_the_job_queued_again(
    session: Session, project: str
) -> None:
    from store import jobs
    from store.tables import Poke, Run

    job = new_job(session, project)
    assert jobs.claim(session, LANE, "w") is not None
    assert jobs.reap(session) == 0
    before = session.scalar(select(func.count()).select_from(Poke)) or 0
    expire(session, job)
    assert jobs.reap(session) == 1
    assert (job.state, job.losses, job.lease_owner) == ("queued", 1, None)
    assert session.scalars(select(Run.exit).where(Run.job_id == job.id)).all() == ["lost"]
    session.flush()
    assert session.scalar(select(func.count()).select_from(Poke)) == before + 1
    assert states(session, job) == ["queued", "starting", "queued"]


def test_five_losses_in_a_row_fail_the_job(session: Session, project: str) -> None:
    from store import jobs

    job = new_job(session, project)
    for _ in range(5):
        assert job.state == "queued"
        assert jobs.claim(session, LANE, "w") is not None
        expire(session, job)
        jobs.reap(session)
    assert job.state == "failed"
    assert job.error["code"] == "worker_lost"
    assert job.error["retryable"] is True


def test_cancel_is_at_once_where_nobody_works(session: Session, project: str) -> None:
    from store import jobs

    job = new_job(session, project)
    assert jobs.cancel(session, job)
    assert job.state == "cancelled"
    assert jobs.cancel(session, job)  # again is as good as once
    assert jobs.claim(session, LANE, "w") is None


def test_cancel_waits_for_a_worker_that_lives_and_not_for_a_dead_one(
    session: Session, project: str
) -> None:
    from store import jobs

    job = new_job(session, project)
    assert jobs.claim(session, LANE, "w") is not None
    assert not jobs.cancel(session, job)
    assert job.state == "cancelling"
    session.flush()
    assert jobs.renew(session, job.id, job.fence) == "cancel"
    expire(session, job)
    assert jobs.cancel(session, job)
    assert job.state == "cancelled"
    with pytest.raises(jobs.FencedOut):
        jobs.held(session, job.id, job.fence)


def test_an_ended_job_stays_as_it_is(session: Session, project: str) -> None:
    from store import jobs

    job = new_job(session, project)
    assert jobs.claim(session, LANE, "w") is not None
    error = {"code": "internal", "message": "", "hint": None, "retryable": False, "items": []}
    jobs.fail(session, jobs.held(session, job.id, job.fence), error, "crashed")
    with pytest.raises(jobs.IllegalTransition) as refused:
        jobs.cancel(session, job)
    assert refused.value.state == "failed"
    with pytest.raises(jobs.FencedOut):
        jobs.held(session, job.id, job.fence)


def test_a_live_job_cannot_be_deleted(session: Session, project: str) -> None:
    from store import jobs

    job = new_job(session, project)
    with pytest.raises(jobs.IllegalTransition):
        jobs.delete(session, job)


def test_events_are_numbered_without_a_gap(session: Session, project: str) -> None:
    from store import events, jobs

    job = new_job(session, project)
    for number in range(20):
        events.append(session, job, "log", {"level": "info", "message": str(number)})
    jobs.cancel(session, job)
    session.flush()
    assert [event.seq for event in events.after(session, job.id, 0, 100)] == list(range(1, 23))
    assert [event.seq for event in events.after(session, job.id, 20, 100)] == [21, 22]


def test_messages_come_back_when_the_broker_was_away(project: str) -> None:
    from store import queue
    from store.database import transaction

    with transaction() as session:
        new_job(session, project)

    def send_to_nobody() -> None:
        with transaction() as session:
            assert queue.take(session)[LANE] >= 1
            raise ConnectionError("the broker is away")

    with pytest.raises(ConnectionError):
        send_to_nobody()
    with transaction() as session:
        assert queue.take(session)[LANE] >= 1
    with transaction() as session:
        assert queue.take(session)[LANE] == 0
