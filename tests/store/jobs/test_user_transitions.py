"""Actions of users on jobs in every state, and the order of turns."""

from collections.abc import Callable
from typing import Any

import pytest

from store import jobs
from store.database import transaction
from store.jobs import queue_position
from store.tables import Job

Claim = Callable[[], Job | None]
ACTIONS: dict[str, Callable[[Any, Job], bool | None]] = {
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": jobs.retry,
}
# State and action -> the state after it; what is not here is refused.
LEGAL = {
    ("queued", "cancel"): "cancelled",
    ("queued", "pause"): "paused",
    ("starting", "cancel"): "cancelling",
    ("starting", "pause"): "pausing",
    ("running", "cancel"): "cancelling",
    ("running", "pause"): "pausing",
    ("pausing", "cancel"): "cancelling",
    ("pausing", "pause"): "pausing",
    ("pausing", "resume"): "running",
    ("paused", "cancel"): "cancelled",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "queued",
    ("cancelling", "cancel"): "cancelling",
    ("cancelled", "cancel"): "cancelled",
    ("failed", "retry"): "queued",
}
STATES = (
    *("queued", "starting", "running", "pausing", "paused", "cancelling"),
    *("succeeded", "failed", "cancelled"),
)


def apply_action(name: str, job_id: str) -> bool | None:
    with transaction() as session:
        return ACTIONS[name](session, session.get_one(Job, job_id, with_for_update=True))


def bring_to_state(job_id: str, claim: Claim, state: str) -> None:
    """Lead a queued job to a state by the ways that there are."""
    if state in ("paused", "cancelled"):
        apply_action({"paused": "pause", "cancelled": "cancel"}[state], job_id)
    elif state != "queued":
        job = claim()
        assert job is not None
        with transaction() as session:
            row = jobs.lock_leased_job(session, job.id, job.fence)
            if state != "starting":
                jobs.enter_phase(session, row, "training", None)
            if state == "succeeded":
                jobs.succeed(session, row, {}, [])
            if state == "failed":
                row.lost_runs = 2
                jobs.fail(session, row, {"code": "internal", "message": "x"}, "crashed")
        if state in ("pausing", "cancelling"):
            apply_action({"pausing": "pause", "cancelling": "cancel"}[state], job_id)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", STATES)
def test_action_is_applied_or_refused(
    new_job: Any, claim: Claim, row: Any, state: str, action: str
) -> None:
    job_id = new_job()
    bring_to_state(job_id, claim, state)
    before = row(job_id)
    assert before.state == state
    expected = LEGAL.get((state, action))
    if expected is None:
        with pytest.raises(jobs.IllegalTransitionError) as refused:
            apply_action(action, job_id)
        assert refused.value.state == state
        assert row(job_id).rev == before.rev
        return
    done = apply_action(action, job_id)
    after = row(job_id)
    assert after.state == expected
    if action in ("cancel", "pause"):
        assert done is (expected in ("cancelled", "paused"))


def test_pausing_job_is_paused_when_its_run_ends(new_job: Any, claim: Claim, row: Any) -> None:
    job_id = new_job()
    bring_to_state(job_id, claim, "pausing")
    job = row(job_id)
    with transaction() as session:
        assert jobs.renew_lease(session, job_id, job.fence) == "pause"
        jobs.release(session, jobs.lock_leased_job(session, job_id, job.fence), "stopped")
    assert row(job_id).state == "paused"
    assert claim() is None
    apply_action("resume", job_id)
    resumed = claim()
    assert resumed is not None
    assert (resumed.id, resumed.num_runs) == (job_id, 2)
    assert resumed.fence > job.fence


@pytest.mark.parametrize(("action", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_action_on_a_lost_job_happens_at_once(
    new_job: Any, claim: Claim, expire: Any, row: Any, action: str, state: str
) -> None:
    """An action on a lost job needs neither a worker nor maintenance."""
    job_id = new_job()
    bring_to_state(job_id, claim, "running")
    expire(job_id)
    assert apply_action(action, job_id) is True
    assert row(job_id).state == state
    assert row(job_id).lease_owner is None


def test_job_that_fails_while_it_is_cancelled_is_cancelled(
    new_job: Any, claim: Claim, row: Any
) -> None:
    job_id = new_job()
    job = claim()
    assert job is not None
    apply_action("cancel", job_id)
    with transaction() as session:
        leased = jobs.lock_leased_job(session, job_id, job.fence)
        jobs.fail(session, leased, {"code": "deadline_exceeded"}, "user_error")
    ended = row(job_id)
    assert (ended.state, ended.error) == ("cancelled", None)


def test_lost_job_that_is_pausing_is_paused(
    new_job: Any, claim: Claim, expire: Any, row: Any
) -> None:
    job_id = new_job()
    bring_to_state(job_id, claim, "pausing")
    expire(job_id)
    with transaction() as session:
        assert jobs.reap_expired_leases(session) == 1
    assert (row(job_id).state, row(job_id).lost_runs) == ("paused", 1)


def test_retry_resets_the_counters(new_job: Any, claim: Claim, row: Any) -> None:
    job_id = new_job()
    bring_to_state(job_id, claim, "failed")
    apply_action("retry", job_id)
    job = row(job_id)
    assert (job.state, job.error, job.finished_at, job.lost_runs) == ("queued", None, None, 0)
    again = claim()
    assert again is not None
    assert (again.id, again.num_runs) == (job_id, 2)


def test_flood_delays_another_project_by_one_turn(
    new_job: Any, claim: Claim, other_project: str, row: Any
) -> None:
    flood = [new_job(priority=9) for _ in range(6)]
    late = new_job(project=other_project)
    last = new_job(project=other_project)
    with transaction() as session:
        places = queue_position.QueueStatus(session)
        jobs_ahead = {
            job_id: places.jobs_ahead(session.get_one(Job, job_id)) for job_id in [*flood, late]
        }
        alone = queue_position.QueueStatus(session, job_id=late).jobs_ahead(
            session.get_one(Job, late)
        )
    order = []
    for _ in range(3):  # two slots
        claimed = claim()
        assert claimed is not None
        order.append(claimed.id)
    assert late in order[:2]
    assert jobs_ahead[late] == alone == order.index(late)
    assert jobs_ahead[flood[0]] == order.index(flood[0])
    # The project with fewer slots is next, however many jobs wait.
    with transaction() as session:
        for job_id in order:
            job = session.get_one(Job, job_id)
            jobs.release(session, jobs.lock_leased_job(session, job_id, job.fence), "stopped")
        for job_id in order:
            jobs.cancel(session, session.get_one(Job, job_id, with_for_update=True))
    turns = []
    for _ in range(4):
        claimed = claim()
        assert claimed is not None
        turns.append(claimed.project_id == other_project)
    assert sorted(turns[:2]) == [False, True] if last not in order else not any(turns)


def test_fence_is_never_issued_twice(new_job: Any, claim: Claim) -> None:
    """Also not by a database that was restored from a copy of before."""
    job_id = new_job()
    first = claim()
    assert first is not None
    with transaction() as session:
        jobs.release(session, jobs.lock_leased_job(session, job_id, first.fence), "stopped")
        session.get_one(Job, job_id).fence = 0
    again = claim()
    assert again is not None
    assert again.fence > first.fence
