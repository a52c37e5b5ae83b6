"""Command lines of the API, maintenance, the workers and the programs that run once."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from stillhouse.local.data_dir import DataDir
from stillhouse.local.ports import local_url
from stillhouse.local.supervise.process_spec import ProcessSpec

CELERY = ["-m", "celery", "-A", "worker.celery_app", "worker", "-P", "prefork"]
QUIET = ["--without-gossip", "--without-mingle", "--loglevel=WARNING"]
API_GRACE_S = 5.0  # the API has nothing to save, and an open event stream must not delay the stop
ONE_SHOTS = {
    "migrate": ["-m", "store.migrate"],
    "bootstrap": ["-m", "store.access.bootstrap", "--api-key-file"],
    "login-link": ["-m", "store.access.login_link", "--base-url"],
}


def program_specs(
    environment: Mapping[str, str], data_dir: DataDir, address: tuple[str, int], workers: int
) -> list[ProcessSpec]:
    """Return the processes that need a migrated database: API, maintenance, workers."""
    host, port = address
    api = ProcessSpec(
        name="api",
        argv=(sys.executable, "-m", "api", "--host", host, "--port", str(port)),
        env=environment,
        cwd=data_dir.root,
        is_ready=lambda: api_ready(local_url(host, port)),
        grace_s=API_GRACE_S,
    )
    maintenance = ProcessSpec(
        "maintenance", (sys.executable, "-m", "worker.maintenance"), environment, data_dir.root
    )
    worker_specs = [
        _worker_spec("train", workers, environment, data_dir),
        _worker_spec("prepare", 1, environment, data_dir),
    ]
    return [api, maintenance, *worker_specs]


def one_shot(
    name: str, environment: Mapping[str, str], data_dir: DataDir, base_url: str = ""
) -> ProcessSpec:
    """Return a program that runs once: migrate, bootstrap or login-link."""
    argument = {"bootstrap": str(data_dir.api_key), "login-link": base_url}.get(name)
    argv = (sys.executable, *ONE_SHOTS[name], *([argument] if argument else []))
    return ProcessSpec(name, argv, environment, data_dir.root, grace_s=5.0)


def api_ready(base_url: str) -> bool:
    """Whether the API and all servers that it needs are ready."""
    import httpx

    try:
        return httpx.get(f"{base_url}/readyz", timeout=5.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _worker_spec(
    name: str, slots: int, environment: Mapping[str, str], data_dir: DataDir
) -> ProcessSpec:
    arguments = ["-c", str(slots), "-Q", name, "-n", f"{name}@%h", *QUIET]
    return ProcessSpec(name, (sys.executable, *CELERY, *arguments), environment, data_dir.root)
