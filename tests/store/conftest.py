"""Jobs by rows alone: no engine, no worker."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from store import jobs
from store.database import transaction
from store.ids import new_id
from store.tables import Job
from tests.conftest import Tenant

QUEUE = "train"


@pytest.fixture(autouse=True)
def empty_queue(environment: dict[str, str]) -> None:
    """Cancel queued and live jobs of other tests: claims see the whole queue."""
    with transaction() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="cancelled"))
        live = Job.state.in_(jobs.LIVE_STATES)
        session.execute(update(Job).where(live).values(state="cancelled", lease_expires_at=None))


@pytest.fixture
def new_job(tenant: Any) -> Callable[..., str]:
    def create(priority: int = 0, project: str | None = None) -> str:
        with transaction() as session:
            job = Job(
                id=new_id("job"),
                project_id=project or tenant.id,
                kind="distill",
                queue=QUEUE,
                name="a job",
                labels={},
                priority=priority,
                spec={},
                resolved={},
                model_ids=[],
                methods=[],
                summary={},
            )
            return jobs.create(session, job).id

    return create


@pytest.fixture
def other_project(new_tenant: Callable[[], Tenant]) -> str:
    return new_tenant().id


@pytest.fixture
def claim() -> Callable[[], Job | None]:
    def take(worker: str = "a worker") -> Job | None:
        with transaction() as session:
            return jobs.claim(session, QUEUE, worker)

    return take


@pytest.fixture
def expire() -> Callable[[str], None]:
    """Let a job's lease be over."""

    def over(job_id: str) -> None:
        with transaction() as session:
            past = "2026-01-01T00:00:00Z"
            session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=past))

    return over


@pytest.fixture
def row() -> Callable[[str], Job]:
    def read(job_id: str) -> Job:
        with transaction() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    return read
