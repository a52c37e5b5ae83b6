"""SourceClient: reads ranges of the files of a source through the channel to the worker."""

import hashlib
import json
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kdcore.protocol.source_channel import (
    END,
    ERROR,
    FRAME_HEADER,
    LIST,
    READ,
    REQUEST,
    ChannelError,
    ListedFile,
    ListEnd,
)
from kdcore.runtime.errors import RunCancelledError, UserError, error_detail

MAX_AHEAD_BYTES = 16 << 20
"""Bytes that are requested before they are needed, beside the read that is needed next."""
_MAX_AHEAD = 64
_HINT = "create the data set again when the source is as it should be"


class FileRange(NamedTuple):
    """Some bytes of a file, by its position in the list."""

    position: int
    start: int
    size: int


class SourceClient:
    """The engine's end of the channel.

    Raises :class:`UserError` ``dataset_invalid`` for a source or a file that the worker cannot
    read, and :class:`RunCancelledError` if a later run may read it.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._active: RangeSequence | None = None
        self.single = False
        """Whether the source is one file; known when the list has ended."""
        self.list_digest = ""
        """SHA-256 of the list."""

    def close(self) -> None:
        """Close the channel."""
        self._socket.close()

    def list_files(self) -> Iterator[ListedFile]:
        """Yield every file."""
        self._socket.sendall(REQUEST.pack(LIST, 0, 0, 0))
        digest, rest = hashlib.sha256(), b""
        while (chunk := self._receive_list()) is not None:
            digest.update(chunk)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield ListedFile(*json.loads(line))
        self.list_digest = digest.hexdigest()

    def _receive_list(self) -> bytes | None:
        kind, payload = self._receive_frame()
        if kind != END:
            return payload
        self.single = ListEnd.model_validate_json(payload).single
        return None

    def activate(self, sequence: "RangeSequence") -> None:
        """Let ``sequence`` use the channel; drop what another one has requested ahead."""
        if self._active is sequence:
            return
        if self._active is not None:
            self._active.drop_requested()
        self._active = sequence

    def request(self, byte_range: FileRange) -> None:
        """Send a request; its frame follows those of earlier requests."""
        try:
            self._socket.sendall(REQUEST.pack(READ, *byte_range))
        except OSError as error:
            raise RunCancelledError("the worker has ended") from error

    def receive(self) -> bytes:
        """Return the bytes of the oldest request."""
        return self._receive_frame()[1]

    def skip(self) -> None:
        """Receive and drop the frame of the oldest request, also an error."""
        _, size = FRAME_HEADER.unpack(self._receive_bytes(FRAME_HEADER.size))
        self._receive_bytes(size)

    def _receive_frame(self) -> tuple[bytes, bytes]:
        kind, size = FRAME_HEADER.unpack(self._receive_bytes(FRAME_HEADER.size))
        payload = self._receive_bytes(size)
        if kind == ERROR:
            raise _exception_of(ChannelError.model_validate_json(payload))
        return kind, payload

    def _receive_bytes(self, size: int) -> bytes:
        data = bytearray(size)
        view, position = memoryview(data), 0
        while position < size:
            try:
                count = self._socket.recv_into(view[position:])
            except OSError:
                count = 0
            if count == 0:
                raise RunCancelledError("the worker has ended")
            position += count
        return bytes(data)


class RangeSequence:
    """Reads ranges in their order, and requests the next ones ahead."""

    def __init__(self, client: SourceClient, ranges: Iterable[FileRange]) -> None:
        self._client = client
        self._ranges = iter(ranges)
        self._requested: deque[FileRange] = deque()
        self._dropped: deque[FileRange] = deque()
        """Ranges that were requested, and dropped for another sequence."""
        self._requested_bytes = 0

    def read_next(self) -> bytes | None:
        """Return the bytes of the next range; None after the last one."""
        self._client.activate(self)
        self._request_ahead()
        if not self._requested:
            return None
        self._requested_bytes -= self._requested.popleft().size
        return self._client.receive()

    def drop_requested(self) -> None:
        """Receive what was requested without using it; it is requested again when it is needed."""
        for _ in self._requested:
            self._client.skip()
        self._dropped.extendleft(reversed(self._requested))
        self._requested.clear()
        self._requested_bytes = 0

    def _request_ahead(self) -> None:
        while len(self._requested) < _MAX_AHEAD and self._requested_bytes < MAX_AHEAD_BYTES:
            following = self._dropped.popleft() if self._dropped else next(self._ranges, None)
            if following is None:
                return
            self._client.request(following)
            self._requested.append(following)
            self._requested_bytes += following.size


def _exception_of(error: ChannelError) -> Exception:
    if error.kind == "unavailable":
        return RunCancelledError(error.message)
    if error.name is None:
        return UserError("dataset_invalid", error.message, hint=_HINT)
    return UserError(
        "dataset_invalid",
        f"{error.name} {error.message}",
        hint=_HINT,
        items=[error_detail(error.name, error.message)],
    )
