"""Real runs: a slot works in a thread, its engine is a real process."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from store.database import transaction
from store.tables import Checkpoint, Job, Run
from tests.helpers import wait_until

Json = dict[str, Any]


@pytest.fixture
def empty_queue(environment: dict[str, str]) -> None:
    """A slot takes whatever waits: what other tests left is put away."""
    with transaction() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="cancelled"))


@dataclass
class Running:
    """A job that a slot of this process works on."""

    id: str
    thread: threading.Thread

    @property
    def row(self) -> Job:
        with transaction() as session:
            return session.get_one(Job, self.id)

    @property
    def runs(self) -> list[Run]:
        with transaction() as session:
            query = session.query(Run).where(Run.job_id == self.id)
            return list(query.order_by(Run.number))

    @property
    def checkpoints(self) -> list[Checkpoint]:
        with transaction() as session:
            return list(session.query(Checkpoint).where(Checkpoint.job_id == self.id))

    @property
    def engines(self) -> list[int]:
        """Pids of the engines that work in a folder of this job."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    command = (process / "cmdline").read_bytes()
                    folder = (process / "cwd").readlink()
                except OSError:
                    continue
                if b"kdcore" in command and self.id in str(folder):
                    found.append(int(process.name))
        return found

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        wait_until(holds, 200, f"{what}; the job is {self.row.state}, {self.row.error}")

    def ends(self) -> Job:
        """Wait until the slot has nothing more to do."""
        self.thread.join(timeout=250)
        assert not self.thread.is_alive()
        return self.row


@pytest.fixture
def start(
    empty_queue: None, run_queue: Callable[[str], None]
) -> Iterator[Callable[[str], Running]]:
    """Let a slot of this process take the job."""
    started: list[Running] = []

    def begin(job_id: str) -> Running:
        thread = threading.Thread(target=run_queue, args=("train",), daemon=True)
        running = Running(job_id, thread)
        thread.start()
        started.append(running)
        return running

    yield begin
    for running in started:
        with transaction() as session:
            wanted = update(Job).where(Job.id == running.id)
            session.execute(wanted.values(desired_state="cancel"))
        running.thread.join(timeout=60)
        for pid in running.engines:
            os.kill(pid, 9)
