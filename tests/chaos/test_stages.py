"""A stack killed at each stage of a job loses no row, and the student has the same bytes."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.workload import Client

pytestmark = pytest.mark.timeout(600)

FAILPOINTS = (
    *("api.stored", "api.committed"),
    *("maintenance.taken", "maintenance.sent", "maintenance.reaped"),
    *("worker.claimed", "worker.fetched", "worker.checkpoint", "worker.uploaded", "worker.ended"),
    *("engine.check_cancelled", "engine.checkpoint"),
)


def test_killed_at_every_stage(
    arena: Arena, client: Client, recipe: Any, holds: Callable[..., None]
) -> None:
    for point in FAILPOINTS:
        arena.arm(point)
    for _ in range(6):
        client.submit(recipe)
    arena.until(lambda: not arena.armed, 240, f"every place was met; left: {arena.armed}")
    holds(client)
