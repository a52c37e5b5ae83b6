"""Random faults for forty seconds; `make chaos` runs longer."""

import os
import sys
import time

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.nemesis import RECOVERY_S
from tests.chaos.storm import storm
from tests.chaos.workload import History

pytestmark = pytest.mark.timeout(600)

SECONDS = 40.0


def test_storm_of_faults(arena: Arena, history: History, student: str) -> None:
    seed = int(os.environ.get("CHAOS_SEED", time.time_ns() % 10_000))
    sys.stdout.write(f"CHAOS_SEED={seed}\n")
    nemesis, clients = storm(arena, history, SECONDS, seed)
    assert max(max(recovery_times) for recovery_times in nemesis.recoveries.values()) < RECOVERY_S
    checker = Checker(arena)
    checker.assert_all(clients, history)
    assert set(checker.students()) == {student}
