"""Real runs: a worker's slot in a thread of this process, with engines that are real processes."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

from store.database import transaction
from store.tables import Checkpoint, Job, Run
from tests.helpers import wait_until
from worker.executor import WorkerLoop
from worker.shutdown import ShutdownFlag


@pytest.fixture
def empty_queue(environment: dict[str, str]) -> None:
    """Cancel queued jobs of other tests: a slot would claim them."""
    with transaction() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="cancelled"))


@pytest.fixture
def shutdown_flag() -> ShutdownFlag:
    return ShutdownFlag()


@pytest.fixture
def slot(environment: dict[str, str], shutdown_flag: ShutdownFlag) -> Iterator[WorkerLoop]:
    """A slot with a pool of engines that no other test uses."""
    loop = WorkerLoop(shutdown=shutdown_flag)
    yield loop
    loop.pool.close()


@dataclass
class RunningJob:
    """A job on which a slot of this process works."""

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
    def engine_pids(self) -> list[int]:
        """Process ids of the engines that work in a folder of this job."""
        pids = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    command = (process / "cmdline").read_bytes()
                    folder = (process / "cwd").readlink()
                except OSError:
                    continue
                if b"kdcore" in command and self.id in str(folder):
                    pids.append(int(process.name))
        return pids

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, 200, f"{what}; the job is {self.row.state}, {self.row.error}")

    def wait_until_idle(self) -> Job:
        """Wait until the slot has no work left. Returns the job's row."""
        self.thread.join(timeout=250)
        assert not self.thread.is_alive()
        return self.row


@pytest.fixture
def start(empty_queue: None, slot: WorkerLoop) -> Iterator[Callable[[str], RunningJob]]:
    """Let the slot claim a job that is queued."""
    started: list[RunningJob] = []

    def start_job(job_id: str) -> RunningJob:
        thread = threading.Thread(target=slot.run_jobs, args=("train",), daemon=True)
        running = RunningJob(job_id, thread)
        thread.start()
        started.append(running)
        return running

    yield start_job
    for running in started:
        with transaction() as session:
            cancelled = update(Job).where(Job.id == running.id).values(desired_state="cancel")
            session.execute(cancelled)
        running.thread.join(timeout=60)
        for pid in running.engine_pids:
            os.kill(pid, 9)
