"""An object store that refuses, hangs, cuts, loses replies and returns wrong bytes."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.proxy import Fault
from tests.chaos.workload import Client

pytestmark = pytest.mark.timeout(600)

FAULTS = [
    Fault("refuse", times=4),
    Fault("hang", "PUT", times=2, seconds=4),
    Fault("hang", "GET", times=2, seconds=4),
    Fault("cut", "PUT", times=3),
    Fault("deaf", "PUT", times=3),
    Fault("flip", "GET", times=2),
]


@pytest.mark.parametrize("together", [FAULTS[:3], FAULTS[3:]], ids=["silent", "lying"])
def test_store_that_fails_costs_nothing(
    arena: Arena, client: Client, recipe: Any, holds: Callable[..., None], together: list[Fault]
) -> None:
    job = client.submit(recipe)
    arena.until(lambda: client.has_started(job), 120, "a job runs")
    arena.forget_files()
    for fault in together:
        arena.proxy.inject(fault)
    for _ in range(2):
        client.submit(recipe)
    arena.until(lambda: all(fault.met == fault.times for fault in together), 240, "all are met")
    holds(client)


def test_unavailable_store_is_reported(arena: Arena, client: Client) -> None:
    arena.proxy.inject(Fault("refuse", times=10_000))
    try:
        with arena.client() as http:
            response = http.get("/readyz")
        assert (response.status_code, response.json()["checks"]["object_store"]) == (
            503,
            "unavailable",
        )
        assert client.call("GET", "/v1/jobs").status_code == 200
    finally:
        arena.proxy.heal()
    arena.until(lambda: client.http.get("/readyz").status_code == 200, 60, "it is ready again")
