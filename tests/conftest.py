"""Fixtures for all tests: real Postgres, Valkey, object store, API and workers.

``services`` starts the servers alone, once in each pytest process. Every test gets a new project,
so only unfinished jobs have to be cleaned up. ``stack`` runs the whole product, as `stillhouse up`
does; the folders that use it run in one pytest process, so that only one stack is started.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stillhouse.local import Services, Stack
from tests.helpers import wait_until

Json = dict[str, Any]
TRAINED_EPOCHS = 2
SHARED_PROCESS_PATHS = {
    "chaos": ("tests/chaos/",),
    "s3": ("tests/worker/sources/test_s3.py", "tests/worker/sources/test_through_api.py"),
    "stack": ("tests/dashboard/", "tests/e2e/"),
    "verify": ("tests/worker/kinds/test_verify.py",),
}
"""Paths whose tests share one pytest-xdist process: two stacks at once compete for CPU time, and
the fixture of ``verify`` takes half a minute, and an S3 server some seconds."""
SLOW_TESTS = (
    "tests/chaos/",  # processes are killed and frozen, and the tests wait for leases to expire
    "tests/dashboard/test_long_names.py",  # a data set and a job, and eleven pages at four widths
    "tests/e2e/test_environments.py::test_stack",  # the complete stack, in each environment
    "tests/e2e/test_readme.py::test_shell_session",  # a guide with several trainings
    "tests/e2e/test_restart.py",  # the complete stack is killed and started again
    "tests/e2e/test_source_restart.py",  # a worker is killed, and its lease must expire
    "tests/e2e/test_worker_failure.py",  # a worker is killed, and its lease must expire
    "tests/house/test_new_",  # examples run in a scratch copy of the checkout
    "tests/house/test_python_versions.py",  # packages of other versions of Python are installed
    "tests/kdcore/training/test_resume_combinations.py",  # all pairs of method and scheme
    "tests/worker/kinds/test_programs.py",  # exports are converted, uploaded, evaluated and teach
    "tests/upgrade/",  # the complete stack on a stored database
)
"""Tests that `make test` leaves out and `make test-all` runs."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests before pytest selects tests by their marks."""
    for item in items:
        if item.nodeid.startswith(SLOW_TESTS):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Group tests by path, because xdist's mark for groups has no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPath(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            groups = (
                group for group, paths in SHARED_PROCESS_PATHS.items() if nodeid.startswith(paths)
            )
            return next(groups, nodeid)

    return ByPath(config, log)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(tmp_path_factory.mktemp("services") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def source_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every project may read data sets from."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="session")
def environment(services: Services, source_folder: Path) -> Iterator[dict[str, str]]:
    """Settings that reach the servers, also set in this process; the database is migrated."""
    rules = [
        {"source": f"folder:{source_folder}", "projects": ["*"]},
        {"source": "s3://objects/sets", "projects": ["*"]},
        {"source": "s3://other-bucket/data", "projects": ["prj_00000000000000000000000000"]},
    ]
    variables = services.environment | {
        "STILLHOUSE_SOURCES": json.dumps(rules),
        "STILLHOUSE_UPLOAD_PART_BYTES": "65536",
        # Tests wait for heartbeats (they deliver a cancel) and polls (they deliver engine events).
        "STILLHOUSE_HEARTBEAT_S": "0.5",
        "STILLHOUSE_POLL_S": "0.1",
        "STILLHOUSE_ENGINE_THREADS": "1",
    }
    os.environ.update({name: value for name, value in variables.items() if "STILLHOUSE" in name})
    from store.database import engine
    from store.migrate import migrate

    migrate()
    yield variables
    engine().dispose()


@dataclass(frozen=True)
class ApiProcess:
    """A real API process."""

    url: str
    pid: int


@pytest.fixture(scope="session")
def api_process(
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[ApiProcess]:
    """An API process on a free port."""
    from stillhouse.local.ports import free_port

    if pytestconfig.pluginmanager.hasplugin("_cov"):
        settings = pytestconfig.rootpath / "pyproject.toml"
        environment = environment | {"COVERAGE_PROCESS_START": str(settings)}
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
        wait_until(lambda: _responds(f"{url}/healthz"), 60, f"the API responds (its log: {log})")
        yield ApiProcess(url, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def api_url(api_process: ApiProcess) -> str:
    return api_process.url


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Tenant:
    """A project and one of its admin keys."""

    id: str
    key: str


def create_tenant() -> Tenant:
    from store.access import credentials
    from store.database import transaction

    with transaction() as session:
        project = credentials.create_project(session, "test project")
        key = credentials.create_key(session, project.id, "test", credentials.SCOPES)
        return Tenant(project.id, key)


@pytest.fixture
def new_tenant(environment: dict[str, str]) -> Iterator[Callable[[], Tenant]]:
    """Create projects, and cancel their unfinished jobs after the test.

    Otherwise the worker of the next test would run them, or a lease would expire in another test.
    """
    from sqlalchemy import update

    from store.database import transaction
    from store.jobs import TERMINAL_STATES
    from store.tables import Job

    created: list[Tenant] = []

    def create() -> Tenant:
        created.append(create_tenant())
        return created[-1]

    yield create
    unfinished = Job.project_id.in_([tenant.id for tenant in created])
    cancelled = {"state": "cancelled", "lease_owner": None, "lease_expires_at": None}
    with transaction() as session:
        session.execute(
            update(Job).where(unfinished, Job.state.not_in(TERMINAL_STATES)).values(cancelled)
        )


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


def client_for(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60)


@pytest.fixture
def client(api_url: str, tenant: Tenant) -> Iterator[httpx.Client]:
    """An HTTP client with the key of this test's project."""
    with client_for(api_url, tenant.key) as project_client:
        yield project_client


@pytest.fixture
def other_client(api_url: str, new_tenant: Callable[[], Tenant]) -> Iterator[httpx.Client]:
    """An HTTP client with the key of another project."""
    with client_for(api_url, new_tenant().key) as project_client:
        yield project_client


@pytest.fixture(scope="session")
def run_queue(environment: dict[str, str]) -> Iterator[Callable[[str], None]]:
    """Run all jobs of a queue in this process as a worker does, each in an engine process."""
    from worker.executor import WorkerLoop

    loop = WorkerLoop()
    yield loop.run_jobs
    loop.pool.close()


@pytest.fixture(scope="session")
def digits_row(api_url: str, run_queue: Callable[[str], None]) -> Json:
    """Columns of the built-in digits' row, ingested once through the API and the engine."""
    from store.database import transaction
    from store.tables import Dataset

    with client_for(api_url, create_tenant().key) as project_client:
        body = {"name": "digits", "source": "builtin:digits"}
        dataset = project_client.post("/v1/datasets", json=body).raise_for_status().json()
        run_queue("prepare")
        ready = project_client.get(f"/v1/datasets/{dataset['id']}").raise_for_status().json()
    assert ready["state"] == "ready", ready
    with transaction() as session:
        row = session.get_one(Dataset, dataset["id"])
        return {column.key: getattr(row, column.key) for column in Dataset.__table__.columns}


@pytest.fixture
def digits(client: httpx.Client, tenant: Tenant, digits_row: Json) -> Json:
    """The built-in digits in this test's project: a copy of the row with the same object key."""
    return copy_digits(client, tenant, digits_row)


def copy_digits(client: httpx.Client, tenant: Tenant, digits_row: Json) -> Json:
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Dataset

    row = Dataset(**digits_row | {"id": new_id("ds"), "project_id": tenant.id})
    with transaction() as session:
        session.add(row)
    ready: Json = client.get(f"/v1/datasets/{row.id}").raise_for_status().json()
    return ready


@dataclass(frozen=True)
class TrainedJob:
    """A job that trained a student, and an HTTP client of its project."""

    client: httpx.Client
    dataset: Json
    body: Json
    job: Json

    @property
    def artifact(self) -> Json:
        """The artifact with the student's safetensors file."""
        listed = self.client.get(f"/v1/jobs/{self.job['id']}/artifacts").raise_for_status().json()
        (student,) = (file for file in listed["data"] if file["format"] == "safetensors")
        return dict(student)

    @property
    def checkpoints(self) -> list[Json]:
        """The stored checkpoints, newest first."""
        path = f"/v1/jobs/{self.job['id']}/checkpoints"
        return list(self.client.get(path).raise_for_status().json()["data"])

    @property
    def student(self) -> bytes:
        """The bytes of the student's weights."""
        return self.client.get(f"/v1/jobs/{self.job['id']}/student").raise_for_status().content


@pytest.fixture(scope="session")
def trained_job(
    api_url: str, run_queue: Callable[[str], None], digits_row: Json
) -> Iterator[TrainedJob]:
    """A supervised job that succeeded, trained once per session."""
    tenant = create_tenant()
    with client_for(api_url, tenant.key) as project_client:
        dataset = copy_digits(project_client, tenant, digits_row)
        body = {
            "student": {"architecture": "cifar/resnet8"},
            "dataset": dataset["id"],
            "method": "supervised",
            "training": {"epochs": TRAINED_EPOCHS, "batch_size": 256},
        }
        job = project_client.post("/v1/jobs", json=body).raise_for_status().json()
        run_queue("train")
        job = project_client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
        assert job["state"] == "succeeded", job
        yield TrainedJob(project_client, dataset, body, job)


@pytest.fixture(scope="session")
def trained_model(trained_job: TrainedJob) -> Json:
    """The trained student, registered as a model of its project."""
    body = {"name": "a teacher", "source": f"job:{trained_job.job['id']}"}
    model: Json = trained_job.client.post("/v1/models", json=body).raise_for_status().json()
    return model


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The complete product: API, maintenance, Celery workers, Postgres, Valkey, object store."""
    with Stack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running


@pytest.fixture
def stack_client(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as stack_http:
        yield stack_http


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[1]
