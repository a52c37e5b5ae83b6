"""The channel between a worker and an engine: bounded, and safe from the engine."""

import contextlib
import json
import socket
from pathlib import Path

import pytest

from kdcore.data.ingest.archives.source_archive import SourceArchive
from kdcore.data.ingest.archives.source_client import SourceClient
from kdcore.protocol.source_channel import DATA, FRAME_HEADER, LIST, READ, REQUEST
from tests.helpers import wait_until
from tests.worker.sources.helpers import LIMITS, folder_reader, serve_source, write_files

MEGABYTE = 1 << 20


def test_reads_ahead_stay_within_the_buffer(tmp_path: Path) -> None:
    files = {f"{number:03d}": bytes([number]) * MEGABYTE for number in range(48)}
    write_files(tmp_path, files)
    with (
        serve_source(folder_reader(tmp_path), buffer_bytes=8 * MEGABYTE) as (server, descriptor),
        socket.socket(fileno=descriptor) as engine,
    ):
        engine.sendall(REQUEST.pack(LIST, 0, 0, 0))
        kind, _ = _receive(engine)
        assert kind == DATA
        _receive(engine)
        for number in range(len(files)):
            engine.sendall(REQUEST.pack(READ, number, 0, MEGABYTE))
        wait_until(lambda: server.max_buffered_bytes == 8 * MEGABYTE, 60, "the buffer is full")
        received = [_receive(engine)[1] for _ in files]
        assert received == list(files.values())
        assert server.max_buffered_bytes == 8 * MEGABYTE


def test_invalid_requests_end_the_channel(tmp_path: Path) -> None:
    write_files(tmp_path, {"one": b"1234"})
    invalid = (
        (READ, 1, 0, 1),
        (READ, 0, 0, 5),
        (READ, 0, 2**40, 1),
        (b"?", 0, 0, 1),
        (LIST, 0, 0, 0),
    )
    for request in invalid:
        with (
            serve_source(folder_reader(tmp_path)) as (_, descriptor),
            socket.socket(fileno=descriptor) as engine,
        ):
            engine.sendall(REQUEST.pack(LIST, 0, 0, 0))
            assert [json.loads(_receive(engine)[1])[:2]] == [["one", 4]]
            _receive(engine)
            engine.sendall(REQUEST.pack(*request))
            assert engine.recv(1) == b""


def _receive(engine: socket.socket) -> tuple[bytes, bytes]:
    with engine.makefile("rb", buffering=0) as file:
        kind, size = FRAME_HEADER.unpack(_read(file, FRAME_HEADER.size))
        return kind, _read(file, size)


def _read(file: socket.SocketIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += file.read(size - len(data)) or pytest.fail("the channel has ended")
    return data


def test_many_files_pass_through_a_small_buffer(tmp_path: Path) -> None:
    files = {f"{number:03d}.png": bytes([number]) * 150_000 for number in range(250)}
    write_files(tmp_path, files)
    with (
        serve_source(folder_reader(tmp_path), buffer_bytes=MEGABYTE) as (server, descriptor),
        contextlib.closing(SourceClient(descriptor)) as client,
    ):
        archive = SourceArchive(client, LIMITS)
        archive.expect_reads(archive.members)
        for member in archive.members:
            assert archive.read(member) == files[member.name]
        assert 2 * 150_000 < server.max_buffered_bytes <= MEGABYTE
