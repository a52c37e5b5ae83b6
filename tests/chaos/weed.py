"""A real S3 server: SeaweedFS, with ports, credentials and a bucket of its own."""

import contextlib
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from stillhouse.local.supervise.process_spec import ProcessSpec

BUCKET = "objects"
PORTS = ("master", "volume", "filer", "s3", "admin")


def _ports(count: int) -> list[int]:
    """Free ports below those that the system gives to outgoing connections: none may be taken
    between now and the moment when the server, which opens one after the other, comes to it."""
    ports: list[int] = []
    while len(ports) < count:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports += [] if port in ports else [port]
    return ports


class Weed:
    """One server: its process, its ports and its credentials."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.key, self.secret = secrets.token_hex(10), secrets.token_hex(20)
        ports = _ports(2 * len(PORTS))
        self._ports = dict(zip(PORTS, ports, strict=False))
        self._grpc = dict(zip(PORTS, ports[len(PORTS) :], strict=True))
        self.port = self._ports["s3"]

    def part(self, base: Mapping[str, str]) -> ProcessSpec:
        """The process, which the supervisor starts again when it ends."""
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        ports += [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        return ProcessSpec(
            "weed",
            (
                *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini"),
                *(f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false"),
                *("-master.telemetry=false", "-disableHttp", f"-bucket={BUCKET}"),
            ),
            {**base, **self.credentials, "GOMEMLIMIT": "256MiB", "TMPDIR": str(self._folder)},
            self._folder,
            is_ready=self._ready,
        )

    @property
    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def _ready(self) -> bool:
        try:  # a refusal without credentials shows that it is ready
            return httpx.get(f"http://127.0.0.1:{self.port}/{BUCKET}").status_code == 403
        except httpx.TransportError:
            return False
