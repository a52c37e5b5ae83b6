"""A Postgres proxy that drops replies to COMMIT, so the client does not know the outcome."""

import asyncio
import threading
from pathlib import Path

from typing_extensions import override

from tests.chaos.served import Serve, Served

CHUNK = 65536
# CommandComplete with its tag: https://www.postgresql.org/docs/current/protocol-message-formats.html
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


class Commits(Served):
    """A proxy with a socket in another folder than that of Postgres."""

    def __init__(self, folder: Path, behind: Path) -> None:
        self._socket, self._behind = folder / behind.name, behind
        self._left = 0
        self._lock = threading.Lock()
        self.lost = 0
        """Number of dropped replies."""
        super().__init__()

    def lose(self, times: int) -> None:
        """Cut the connection instead of passing on the reply to each of the next commits."""
        with self._lock:
            self._left = times

    @override
    async def _listen(self, serve: Serve) -> asyncio.Server:
        return await asyncio.start_unix_server(serve, self._socket)

    @override
    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, out = await asyncio.open_unix_connection(self._behind)
        try:
            ways = (
                asyncio.create_task(self._questions(reader, out)),
                asyncio.create_task(self._forward_replies(behind, writer)),
            )
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            out.close()

    async def _questions(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            out.write(chunk)
            await out.drain()

    async def _forward_replies(
        self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await behind.read(CHUNK):
            if COMMITTED in chunk and self._loses():
                return
            writer.write(chunk)
            await writer.drain()

    def _loses(self) -> bool:
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            self.lost += 1
            return True
