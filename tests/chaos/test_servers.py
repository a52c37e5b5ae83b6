"""Broker, database and API are killed, frozen and emptied while jobs run and are posted."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from stillhouse.client import Client as Follower
from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.workload import Client

pytestmark = pytest.mark.timeout(600)

Holds = Callable[..., None]
FROZEN_S = 5.0
MANY = 120


def ready(arena: Arena) -> int:
    with arena.client() as http:
        return http.get("/readyz").status_code


def test_broker_forgets_freezes_and_dies(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    """Messages are hints: without them, jobs are accepted while the broker is frozen, and run."""
    client.submit(recipe)
    arena.forget_messages()
    arena.kill("valkey")
    client.submit(recipe)
    with arena.freeze("valkey"):
        client.submit(recipe)
        assert ready(arena) == 200
        time.sleep(FROZEN_S)  # the fault: longer than any client of the broker waits
    holds(client)


def test_database_restarts_at_once(arena: Arena, client: Client, recipe: Any, holds: Holds) -> None:
    first = client.submit(recipe)
    arena.until(lambda: client.has_started(first), 120, "a job runs")
    arena.kill("postgres", signal.SIGQUIT)  # what `pg_ctl -m immediate` sends
    client.submit(recipe)
    assert client.insist("GET", f"/v1/jobs/{first}").status_code == 200
    holds(client)


def test_frozen_database_costs_a_request_seconds(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    first = client.submit(recipe)
    arena.until(lambda: client.has_started(first), 120, "a job runs")
    with arena.freeze("postgres"), ThreadPoolExecutor(MANY) as pool:
        # More at once than the API has threads and the pool connections.
        responses = [pool.submit(client.call, "GET", f"/v1/jobs/{first}") for _ in range(MANY)]
        assert [response.result() for response in responses] == [None] * MANY
        assert {call["status"] for call in client.history.calls[-MANY:]} == {503}
        assert ready(arena) == 503
        with arena.client() as http:
            assert http.get("/healthz").status_code == 200
    arena.until(lambda: ready(arena) == 200, 60, "it is ready again by itself")
    holds(client)


def test_api_ends_streams_when_it_stops(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    """On SIGTERM, the API ends its streams in order and completes the requests that it runs."""
    job = client.submit(recipe)
    headers = {"Accept": "text/event-stream"}
    with Follower(arena.url, arena.api_key) as url, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(url.wait, url.get(f"/v1/jobs/{job}"))
        _read_slowly(arena, client, f"/v1/jobs/{job}/events", headers)
        assert client.insist("GET", f"/v1/jobs/{job}").status_code == 200
        assert waiting.result(120)["state"] == "succeeded"
    holds(client)


def _read_slowly(arena: Arena, client: Client, path: str, headers: dict[str, str]) -> None:
    with client.http.stream("GET", path, headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry")
        os.kill(arena.pid("api"), signal.SIGTERM)
        for _ in lines:  # to its end: a connection that is cut raises
            pass


def test_frozen_maintenance_is_replaced_by_the_other(
    arena: Arena, client: Client, recipe: Any, holds: Holds
) -> None:
    with arena.freeze("maintenance-1"):
        client.submit(recipe)
        holds(client)


@pytest.mark.parametrize("part", ["maintenance-1", "prepare"])
def test_others_of_the_fleet_die(
    arena: Arena, client: Client, recipe: Any, holds: Holds, part: str
) -> None:
    """The other maintenance process takes over; an interrupted ingestion starts again."""
    with arena.client() as http:
        body = {"name": "again", "source": "builtin:digits", "split_seed": len(part)}
        dataset = http.post("/v1/datasets", json=body).raise_for_status().json()
        url = f"/v1/datasets/{dataset['id']}"
        query = "SELECT 1 FROM jobs WHERE dataset_id = %s AND state <> 'queued'"
        checker = Checker(arena)
        arena.until(lambda: bool(checker.rows(query, dataset["id"])), 120, "the ingestion starts")
        arena.kill(part)
        client.submit(recipe)
        arena.until(lambda: _state(http, url) == "ready", 120, "the data set is ready")
    holds(client)


def _state(http: httpx.Client, url: str) -> str:
    return str(http.get(url).json()["state"])
