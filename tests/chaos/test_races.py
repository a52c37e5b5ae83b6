"""Simultaneous requests, and responses that are lost."""

import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.workload import Client

pytestmark = pytest.mark.timeout(600)

Holds = Callable[..., None]
JOBS = 8
LIFE_S = 5.0
"""About how long a job runs that has a slot for itself."""


def test_cancel_meets_every_moment_of_a_job(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    """The job ends cancelled, or succeeded if its engine was done before."""
    seed = time.time_ns() % 10_000
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    statuses: dict[str, int] = {}
    threads = []
    for number in range(JOBS):
        job = client.submit(recipe)
        after = chance.uniform(0, LIFE_S * (1 + number / 2))

        def cancel(job: str = job, after: float = after) -> None:
            time.sleep(after)  # the moment is the point
            statuses[job] = client.http.post(f"/v1/jobs/{job}/cancel").status_code
            client.actions[job] = "cancel"

        threads.append(threading.Thread(target=cancel))
        threads[-1].start()
    for thread in threads:
        thread.join()
    holds(client)
    for job, status in statuses.items():
        allowed = {200: {"cancelled"}, 202: {"cancelled", "succeeded"}, 409: {"succeeded"}}
        assert client.state(job) in allowed[status], (job, status)


def test_replies_to_commits_are_lost(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    """The client does not know whether its request succeeded: repeating it must not do it twice."""
    before = arena.commits.lost
    jobs = [client.submit(recipe)]
    while client.state(jobs[0]) not in ("succeeded", "failed"):
        arena.commits.lose(2)
        if len(jobs) < 4:
            jobs.append(client.submit(recipe))
    arena.commits.lose(0)
    assert arena.commits.lost - before > 5
    holds(client)
    assert {client.state(job) for job in jobs} == {"succeeded"}
    query = "SELECT seq FROM events WHERE job_id = ANY(%s) AND type = 'report'"
    assert len(Checker(arena).rows(query, jobs)) == len(jobs)
