"""SourceServer: answers an engine's requests for the files of a source.

The engine may be compromised by the bytes that it opens. So it names files by their number in the
list alone, and what it requests ahead fits into ``source_buffer_bytes``, or waits.
"""

import array
import contextlib
import json
import queue
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import structlog

from kdcore.protocol.source_channel import (
    DATA,
    END,
    ERROR,
    FRAME_HEADER,
    LIST,
    MAX_READ,
    READ,
    REQUEST,
    ChannelError,
    ListedFile,
    ListEnd,
)
from worker.sources.file_readers import FileReader, SourceRefusedError, SourceUnavailableError

log = structlog.get_logger()
_MAX_PENDING = 512
_LIST_FRAME_BYTES = 1 << 20
_CLOSE_TIMEOUT_S = 2.0


class SourceServer:
    """Serves one engine from a thread; a ``with`` block ends it.

    ``buffer_bytes`` limits what is read ahead of the engine.
    """

    def __init__(self, reader: FileReader, buffer_bytes: int) -> None:
        self._reader = reader
        self._budget = _ByteBudget(buffer_bytes)
        self._socket, self._engine_socket = socket.socketpair()
        self._list = _FileList()
        self._is_listed = False
        self._pool = ThreadPoolExecutor(reader.num_threads, thread_name_prefix="source")
        self._pending: queue.Queue[tuple[Future[bytes], int] | None] = queue.Queue(_MAX_PENDING)
        self._threads = [
            threading.Thread(target=target, name="source-channel", daemon=True)
            for target in (self._receive, self._send)
        ]
        self.unavailable: str | None = None
        """Why the source cannot be read now; None if it can."""

    @property
    def engine_fd(self) -> int:
        """The descriptor that the engine inherits, under the same number."""
        return self._engine_socket.fileno()

    @property
    def max_buffered_bytes(self) -> int:
        """The most bytes that were read ahead so far."""
        return self._budget.max_used

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Serve; the engine has inherited its descriptor, so that its end is noticed."""
        self._engine_socket.close()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads. A read that hangs is left to its own time limit."""
        self._engine_socket.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._budget.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(queue.Empty):
            while True:  # a full queue would hold the thread that receives
                self._pending.get_nowait()
        self._pending.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_CLOSE_TIMEOUT_S)
        self._socket.close()
        self._reader.close()
        self._list.close()

    def _receive(self) -> None:
        """Take requests until the engine ends, and start their reads."""
        with self._end_channel():
            while request := self._socket.recv(REQUEST.size, socket.MSG_WAITALL):
                if len(request) < REQUEST.size or not self._accept(*REQUEST.unpack(request)):
                    break
        self._pending.put(None)

    def _accept(self, kind: bytes, position: int, start: int, size: int) -> bool:
        """Start what is requested. Returns False for a request that no engine of ours sends."""
        if kind == LIST and not self._is_listed:
            self._is_listed = True
            self._send_list()
        elif kind == READ and self._is_valid(position, start, size):
            self._budget.acquire(size)
            read = self._pool.submit(self._reader.read, self._list.file(position), start, size)
            self._pending.put((read, size))
        else:
            log.warning("source_request_invalid", position=position, start=start, size=size)
            return False
        return True

    @contextlib.contextmanager
    def _end_channel(self) -> Iterator[None]:
        """End the channel with the block, however that ends: the engine must not wait forever."""
        try:
            yield
        except (ConnectionError, _ClosedError):
            pass  # the engine has ended, or close() was called
        except Exception as error:
            if not self._budget.closed:
                log.exception("source_server_failed")
                self.unavailable = f"the files could not be read: {type(error).__name__}"
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _is_valid(self, position: int, start: int, size: int) -> bool:
        if not (position < len(self._list) and size <= MAX_READ):
            return False
        return start + size <= self._list.file(position).size

    def _send_list(self) -> None:
        try:
            for file in self._reader.list_files():
                if self._budget.closed:
                    return
                self._list.add(file)
        except (SourceRefusedError, SourceUnavailableError) as error:
            if not self._budget.closed:
                self._send_error(error)
            return
        for chunk in self._list.chunks():
            self._send_frame(DATA, chunk)
        self._send_frame(END, ListEnd(single=self._reader.single).model_dump_json().encode())

    def _send(self) -> None:
        """Send the results in the order of the requests."""
        with self._end_channel():
            while (item := self._pending.get()) is not None:
                read, size = item
                try:
                    self._send_frame(DATA, read.result())
                except (SourceRefusedError, SourceUnavailableError) as error:
                    self._send_error(error)
                finally:
                    self._budget.release(size)

    def _send_error(self, error: SourceRefusedError | SourceUnavailableError) -> None:
        refused = isinstance(error, SourceRefusedError)
        if not refused:
            self.unavailable = str(error)
        name = error.name if isinstance(error, SourceRefusedError) else None
        fields = ChannelError(
            kind="refused" if refused else "unavailable", message=str(error), name=_utf8(name)
        )
        self._send_frame(ERROR, fields.model_dump_json().encode())

    def _send_frame(self, kind: bytes, payload: bytes) -> None:
        self._socket.sendall(FRAME_HEADER.pack(kind, len(payload)))
        self._socket.sendall(payload)


def _utf8(name: str | None) -> str | None:
    """The name with a replacement for bytes that are not UTF-8."""
    return (
        None if name is None else name.encode("utf-8", "surrogateescape").decode(errors="replace")
    )


class _ClosedError(Exception):
    """The server is closed."""


class _ByteBudget:
    """Bytes in flight, up to a limit; one request above the limit may be alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self.closed = False
        self._changed = threading.Condition()
        self.max_used = 0

    def acquire(self, size: int) -> None:
        """Wait until there is room. Raises _ClosedError."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or not self._used or self._used + size <= self._limit
            )
            if self.closed:
                raise _ClosedError
            self._used += size
            self.max_used = max(self.max_used, self._used)

    def release(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class _FileList:
    """The listed files, in a temporary file without a name: a list of millions takes memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until close()
        self._offsets = array.array("Q", [0])
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, file: ListedFile) -> None:
        """Append a file."""
        line = json.dumps(file).encode() + b"\n"
        self._file.write(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def file(self, position: int) -> ListedFile:
        """The file of a number."""
        start, end = self._offsets[position], self._offsets[position + 1]
        with self._lock:
            self._file.seek(start)
            return ListedFile(*json.loads(self._file.read(end - start)))

    def chunks(self) -> Iterator[bytes]:
        """The list in the form that the engine reads."""
        self._file.flush()
        self._file.seek(0)
        while chunk := self._file.read(_LIST_FRAME_BYTES):
            yield chunk

    def close(self) -> None:
        """Delete the list."""
        self._file.close()
