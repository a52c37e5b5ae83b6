"""What tests share: real Postgres, Valkey, object store, API and workers, started by the tests.

``services`` are the servers alone, one set for each pytest process; every test gets a project of
its own, so that nothing has to be cleaned but jobs that nobody ran. ``stack`` is the whole product,
as `stillhouse up` runs it; the folders whose tests use it stay together, so that there is one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stillhouse.local import Services, Stack

Json = dict[str, Any]
TRAINED_EPOCHS = 2
TOGETHER = {"chaos": ("tests/chaos/",), "stack": ("tests/dashboard/", "tests/e2e/")}
"""What shares one process of pytest-xdist: two arenas at once would starve each other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By folder: the mark that xdist has for this does not reach its scheduler with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = (name for name, folders in TOGETHER.items() if nodeid.startswith(folders))
            return next(found, nodeid)

    return ByFolder(config, log)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(tmp_path_factory.mktemp("services") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def environment(services: Services) -> Iterator[dict[str, str]]:
    """The servers' settings, also in this process, with a migrated database behind them."""
    chosen = services.environment | {
        "STILLHOUSE_UPLOAD_PART_BYTES": "65536",
        # What a test waits for: a heartbeat brings a cancel, a poll brings the engine's events.
        "STILLHOUSE_HEARTBEAT_S": "0.5",
        "STILLHOUSE_POLL_S": "0.1",
        "STILLHOUSE_ENGINE_THREADS": "1",
    }
    os.environ.update({name: value for name, value in chosen.items() if "STILLHOUSE" in name})
    from store.database import engine
    from store.migrate import migrate

    migrate()
    yield chosen
    engine().dispose()


@dataclass(frozen=True)
class Api:
    """A real API process."""

    url: str
    pid: int


@pytest.fixture(scope="session")
def api(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API that the tests speak to."""
    from stillhouse.local.ports import free_port

    port = free_port("127.0.0.1", 0)
    log = tmp_path_factory.mktemp("api") / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/healthz"), 60, f"the API answers; {log}")
        yield Api(url, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


@pytest.fixture(scope="session")
def api_url(api: Api) -> str:
    return api.url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"in {seconds} s it was not so that {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Tenant:
    """A project and an admin key of it."""

    id: str
    key: str


def create_tenant() -> Tenant:
    from store.access import credentials
    from store.database import transaction

    with transaction() as session:
        project = credentials.create_project(session, "a test's own")
        key = credentials.create_key(session, project.id, "test", credentials.SCOPES)
        return Tenant(project.id, key)


@pytest.fixture
def new_tenant(environment: dict[str, str]) -> Iterator[Callable[[], Tenant]]:
    """Creates projects. What they leave unfinished is put away: the next test's worker would do it,
    and a lease that nobody holds would expire in another test."""
    from sqlalchemy import update

    from store.database import transaction
    from store.jobs import TERMINAL_STATES
    from store.tables import Job

    created: list[Tenant] = []

    def create() -> Tenant:
        created.append(create_tenant())
        return created[-1]

    yield create
    mine = Job.project_id.in_([tenant.id for tenant in created])
    away = {"state": "cancelled", "lease_owner": None, "lease_expires_at": None}
    with transaction() as session:
        session.execute(update(Job).where(mine, Job.state.not_in(TERMINAL_STATES)).values(away))


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


def speaking(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60)


@pytest.fixture
def client(api_url: str, tenant: Tenant) -> Iterator[httpx.Client]:
    """Speaks to the API with the key of this test's own project."""
    with speaking(api_url, tenant.key) as own:
        yield own


@pytest.fixture
def stranger(api_url: str, new_tenant: Callable[[], Tenant]) -> Iterator[httpx.Client]:
    """Speaks to the API with the key of another project."""
    with speaking(api_url, new_tenant().key) as other:
        yield other


@pytest.fixture(scope="session")
def work(environment: dict[str, str]) -> Iterator[Callable[[str], None]]:
    """Do a queue's jobs in this process, as a worker's slot does, engine child and all."""
    from worker import loop
    from worker.engine import prewarm

    yield loop.run_jobs
    prewarm.discard_prewarmed()


@pytest.fixture(scope="session")
def ingested(api_url: str, work: Callable[[str], None]) -> Json:
    """The row of the built-in digits, ingested once through the API and the engine."""
    from store.database import transaction
    from store.tables import Dataset

    with speaking(api_url, create_tenant().key) as own:
        body = {"name": "digits", "source": "builtin:digits"}
        dataset = own.post("/v1/datasets", json=body).raise_for_status().json()
        work("prepare")
        ready = own.get(f"/v1/datasets/{dataset['id']}").raise_for_status().json()
    assert ready["state"] == "ready", ready
    with transaction() as session:
        row = session.get_one(Dataset, dataset["id"])
        return {column.key: getattr(row, column.key) for column in Dataset.__table__.columns}


@pytest.fixture
def digits(client: httpx.Client, tenant: Tenant, ingested: Json) -> Json:
    """The built-in digits, ready in this test's project: a copy of the row, on the same bytes."""
    return give_digits(client, tenant, ingested)


def give_digits(client: httpx.Client, tenant: Tenant, ingested: Json) -> Json:
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Dataset

    row = Dataset(**ingested | {"id": new_id("ds"), "project_id": tenant.id})
    with transaction() as session:
        session.add(row)
    ready: Json = client.get(f"/v1/datasets/{row.id}").raise_for_status().json()
    return ready


@dataclass(frozen=True)
class Trained:
    """A job that has trained a student, and the client of its project."""

    client: httpx.Client
    dataset: Json
    body: Json
    job: Json

    @property
    def artifact(self) -> Json:
        """The student's file."""
        listed = self.client.get(f"/v1/jobs/{self.job['id']}/artifacts").raise_for_status().json()
        (student,) = (each for each in listed["data"] if each["format"] == "safetensors")
        return dict(student)

    @property
    def checkpoints(self) -> list[Json]:
        """The checkpoints that are kept, the newest first."""
        path = f"/v1/jobs/{self.job['id']}/checkpoints"
        return list(self.client.get(path).raise_for_status().json()["data"])

    @property
    def student(self) -> bytes:
        """The student's weights."""
        return self.client.get(f"/v1/jobs/{self.job['id']}/student").raise_for_status().content


@pytest.fixture(scope="session")
def trained(api_url: str, work: Callable[[str], None], ingested: Json) -> Iterator[Trained]:
    """A supervised job, trained once."""
    tenant = create_tenant()
    with speaking(api_url, tenant.key) as own:
        dataset = give_digits(own, tenant, ingested)
        body = {
            "student": {"architecture": "cifar/resnet8"},
            "dataset": dataset["id"],
            "method": "supervised",
            "training": {"epochs": TRAINED_EPOCHS, "batch_size": 256},
        }
        job = own.post("/v1/jobs", json=body).raise_for_status().json()
        work("train")
        job = own.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
        assert job["state"] == "succeeded", job
        yield Trained(own, dataset, body, job)


@pytest.fixture(scope="session")
def trained_model(trained: Trained) -> Json:
    """The trained student as a model of its project."""
    body = {"name": "a teacher", "source": f"job:{trained.job['id']}"}
    model: Json = trained.client.post("/v1/models", json=body).raise_for_status().json()
    return model


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole product: API, keeper, Celery workers, Postgres, Valkey, objects."""
    with Stack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running


@pytest.fixture
def stack_client(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as speaking:
        yield speaking


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[1]
