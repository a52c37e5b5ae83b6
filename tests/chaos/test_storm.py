"""A minute of chance; `make chaos` has more of it."""

import os
import sys
import time

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.storm import storm
from tests.chaos.workload import History

SECONDS = 60.0


def test_a_minute_of_faults(arena: Arena, history: History, student: str) -> None:
    seed = int(os.environ.get("CHAOS_SEED", time.time_ns() % 10_000))
    sys.stdout.write(f"CHAOS_SEED={seed}\n")
    _, clients = storm(arena, history, SECONDS, seed)
    checker = Checker(arena)
    checker.all(clients, history)
    assert set(checker.students()) == {student}
