"""A proxy before the object store that injects the faults of networks and stores.

One request a connection: the head goes through as it is, so that its signature stays right, and the
response is passed on until the store closes.
"""

import asyncio
from dataclasses import dataclass, field

from typing_extensions import override

from tests.chaos.served import Serve, Served

CHUNK = 65536


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a method (or of any)."""

    kind: str
    """``refuse`` (503), ``hang``, ``cut`` (half of the body arrives), ``deaf`` (done, but the reply
    is lost), ``flip`` (one bit of the response's body is wrong)."""
    method: str | None = None
    times: int = 1
    seconds: float = 3.0
    met: int = field(default=0, init=False)


class Proxy(Served):
    """A proxy; faults may be injected at any time."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self.faults: list[Fault] = []
        self._behind = behind
        super().__init__()

    @override
    async def _listen(self, serve: Serve) -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", self.port)

    def inject(self, fault: Fault) -> Fault:
        """Inject a fault from now on."""
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def _fault(self, method: str) -> Fault | None:
        for fault in list(self.faults):
            if fault.method in (None, method) and fault.met < fault.times:
                fault.met += 1
                return fault
        return None

    @override
    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method = head.split(b" ", 1)[0].decode()
        fault = self._fault(method)
        kind = fault.kind if fault else ""
        if fault and kind == "hang":
            await asyncio.sleep(fault.seconds)
            return
        length = _length(head)
        if kind == "refuse":
            await reader.readexactly(length)
            writer.write(
                b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            return
        if kind == "cut":
            await reader.readexactly(length // 2)
            return
        behind, out = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            out.write(head[:-2] + b"Connection: close\r\n\r\n")
            await _copy(reader, out, length)
            if kind == "deaf":
                await behind.read()
            else:
                await _send_response(behind, writer, flip=kind == "flip")
        finally:
            out.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _copy(reader: asyncio.StreamReader, out: asyncio.StreamWriter, length: int) -> None:
    while length > 0:
        chunk = await reader.read(min(CHUNK, length))
        if not chunk:
            raise OSError("the client went away")
        length -= len(chunk)
        out.write(chunk)
        await out.drain()


async def _send_response(
    behind: asyncio.StreamReader, writer: asyncio.StreamWriter, *, flip: bool
) -> None:
    writer.write(await behind.readuntil(b"\r\n\r\n"))
    while chunk := await behind.read(CHUNK):
        if flip:
            chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
            flip = False
        writer.write(chunk)
        await writer.drain()
