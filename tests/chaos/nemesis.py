"""Nemesis: injects random faults from a seed, and measures the recovery after each."""

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.chaos.arena import LEASE_S, MAINTENANCE, TRAINERS, Arena
from tests.chaos.checker import Checker
from tests.chaos.proxy import Fault

FAILPOINTS = (
    *("api.stored", "api.committed", "maintenance.taken", "maintenance.sent", "maintenance.reaped"),
    *("worker.claimed", "worker.fetched", "worker.checkpoint", "worker.uploaded", "worker.ended"),
    *("engine.check_cancelled", "engine.checkpoint"),
)
STORE = (
    *(("refuse", None, 5), ("hang", "PUT", 1), ("hang", "GET", 1)),
    *(("cut", "PUT", 2), ("deaf", "PUT", 2), ("flip", "GET", 1)),
)
RECOVERY_S = 60.0


class Nemesis:
    """Injects one fault after the other."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self._arena = arena
        self._chance = random.Random(seed)
        self._checker = Checker(arena)
        self.recoveries: dict[str, list[float]] = defaultdict(list)
        """Seconds until some job made progress, by the kind of the fault."""
        self._faults: dict[str, Callable[[], None]] = {
            "kill api": lambda: arena.kill("api"),
            "kill maintenance": lambda: arena.kill(self._chance.choice(MAINTENANCE)),
            "kill worker": lambda: arena.kill(self._chance.choice(TRAINERS)),
            "kill engine": self._kill_engine,
            "shut down worker": lambda: arena.kill(self._chance.choice(TRAINERS), signal.SIGTERM),
            "freeze worker": lambda: arena.freeze_for(self._chance.choice(TRAINERS), LEASE_S + 2),
            "freeze maintenance": lambda: arena.freeze_for(
                self._chance.choice(MAINTENANCE), LEASE_S
            ),
            "freeze broker": lambda: arena.freeze_for("valkey", 4),
            "freeze database": lambda: arena.freeze_for("postgres", 4),
            "freeze store": lambda: arena.freeze_for("weed", 4),
            "lose replies": lambda: arena.commits.lose(self._chance.randint(1, 8)),
            "kill broker": lambda: arena.kill("valkey"),
            "restart database": lambda: arena.kill("postgres", signal.SIGQUIT),
            "cut connections": self._cut_connections,
            "expire a lease": lambda: self._sql(
                "UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE id = "
                "(SELECT id FROM jobs WHERE lease_owner IS NOT NULL ORDER BY id LIMIT 1)"
            ),
            "five messages": lambda: self._sql(
                "INSERT INTO outbox (queue) SELECT 'train' FROM generate_series(1, 5)"
            ),
            "no messages": lambda: self._sql("DELETE FROM outbox"),
            "store": self._store,
            "die at a failpoint": lambda: arena.arm(self._chance.choice(FAILPOINTS)),
            "fail at a failpoint": lambda: arena.arm(
                self._chance.choice(FAILPOINTS[5:10]), "raise chaos"
            ),
        }

    def rage(self, seconds: float) -> None:
        """Inject faults until the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            kind = self._chance.choice(sorted(self._faults))
            with contextlib.suppress(psycopg.OperationalError, ProcessLookupError):
                self._faults[kind]()
            self.recoveries[kind].append(self._recovery())
            time.sleep(self._chance.uniform(0.5, 4.0))

    def _recovery(self) -> float:
        """Seconds until an event is written, or until no job is unfinished."""
        began = time.monotonic()
        last: int | None = None
        while time.monotonic() - began < RECOVERY_S:
            with contextlib.suppress(psycopg.OperationalError):
                now = self._checker.rows("SELECT count(*) AS n FROM events WHERE type <> 'state'")[
                    0
                ]["n"]
                open_ = "SELECT 1 FROM jobs WHERE state IN ('queued', 'running', 'starting')"
                if last is not None and (now > last or not self._checker.rows(open_)):
                    break
                last = now if last is None else last
            time.sleep(0.2)
        return time.monotonic() - began

    def _sql(self, statement: str) -> None:
        self._checker.run(statement)

    def _cut_connections(self) -> None:
        self._sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def _kill_engine(self) -> None:
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    folder = str((process / "cwd").readlink())
                    if b"kdcore" in command and folder.startswith(str(self._arena.root)):
                        os.kill(int(process.name), signal.SIGKILL)
                        return

    def _store(self) -> None:
        kind, method, times = self._chance.choice(STORE)
        self._arena.proxy.inject(Fault(kind, method, times))
