"""What tests share: real Postgres, Valkey, object store, API and workers, started by the tests.

``services`` are the servers alone, one set for each pytest process; every test gets a project of
its own, so that nothing has to be cleaned. ``stack`` is the whole product, as `stillhouse up` runs
it; tests that use it are marked ``xdist_group("stack")`` so that there is one.
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


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(tmp_path_factory.mktemp("services") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def environment(services: Services) -> Iterator[dict[str, str]]:
    """The servers' settings, also in this process, with a migrated database behind them."""
    chosen = services.environment | {"STILLHOUSE_UPLOAD_PART_BYTES": "65536"}
    os.environ.update({name: value for name, value in chosen.items() if "STILLHOUSE" in name})
    from store.database import engine
    from store.migrate import migrate

    migrate()
    yield chosen
    engine().dispose()


@pytest.fixture(scope="session")
def api_url(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real API process."""
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
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


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


@pytest.fixture
def new_tenant(environment: dict[str, str]) -> Callable[[], Tenant]:
    from store import accounts
    from store.database import transaction

    def create() -> Tenant:
        with transaction() as session:
            project = accounts.create_project(session, "a test's own")
            key = accounts.create_key(session, project.id, "test", accounts.SCOPES)
            return Tenant(project.id, key)

    return create


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


@pytest.fixture
def client(api_url: str, tenant: Tenant) -> Iterator[httpx.Client]:
    """Speaks to the API with the key of this test's own project."""
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with httpx.Client(base_url=api_url, headers=headers, timeout=30) as speaking:
        yield speaking


@pytest.fixture
def work(environment: dict[str, str]) -> Callable[[str], None]:
    """Do a lane's jobs in this process, as a worker's slot does, engine child and all."""
    from worker import slot

    return slot.work


@pytest.fixture
def digits(client: httpx.Client, work: Callable[[str], None]) -> Json:
    """The built-in digits, ingested for this test's project."""
    body = {"name": "digits", "source": "builtin:digits"}
    dataset = client.post("/v1/datasets", json=body).raise_for_status().json()
    work("prepare")
    ready: Json = client.get(f"/v1/datasets/{dataset['id']}").raise_for_status().json()
    assert ready["state"] == "ready", ready
    return ready


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
