"""What an S3 server receives from the reader, and lists that do not end or are not whole."""

import base64
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from kdcore.schema.dataset_sources import parse_file_source
from store.settings import settings
from tests.helpers import wait_until
from tests.worker.sources.helpers import serve_source
from worker.sources import s3_reader
from worker.sources.file_readers import SourceRefusedError, SourceUnavailableError
from worker.sources.s3_reader import S3Reader

CANARY = "canary-4711"
DATE = "2026-01-01T00:00:00.000Z"
IMAGE = ("data/x/a/1.png", 5)
Page = Callable[[dict[str, list[str]], int], bytes]


class RecordingServer(ThreadingHTTPServer):
    """An S3 server of objects and of one function that lists them; it records requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, int] = {}
        self.page: Page = lambda _query, _count: list_page(self.objects.items())
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingServer

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}\n{self.headers}")
        url = urlparse(self.path)
        query = parse_qs(url.query)
        if "list-type" in query:
            self._respond(self.server.page(query, len(self.server.requests)))
            return
        size = self.server.objects.get(url.path.removeprefix("/bucket/"))
        self._respond(b"" if size is None else bytes(size), 404 if size is None else 200)

    do_HEAD = do_GET  # noqa: N815 - the name that the server calls

    def _respond(self, body: bytes, status: int = 200) -> None:
        self.send_response(206 if "Range" in self.headers and body else status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def list_page(
    objects: Iterable[tuple[str, int]], token: str | None = None, *, is_truncated: bool = False
) -> bytes:
    """A page of a list; ``objects`` are pairs of a key and a size in bytes."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>{DATE}</LastModified><ETag>&quot;e&quot;</ETag>"
        f"<Size>{size}</Size></Contents>"
        for key, size in objects
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "true" if token or is_truncated else "false"
    head = f"<IsTruncated>{truncated}</IsTruncated>{more}"
    return f'<?xml version="1.0"?><ListBucketResult>{head}{entries}</ListBucketResult>'.encode()


@contextlib.contextmanager
def run_server() -> Iterator[RecordingServer]:
    """A running server."""
    with RecordingServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def server(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecordingServer]:
    with run_server() as running:
        monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ENDPOINT", running.endpoint)
        settings.cache_clear()
        yield running
    monkeypatch.undo()
    settings.cache_clear()


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def reader(source: str = "s3://bucket/data/x") -> S3Reader:
    return S3Reader(parse_file_source(source), retry_delays_s=())


@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "public"])
def test_variables_of_the_object_store_reach_no_source(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch, *, is_signed: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with run_server() as store:
        for name in (
            *("ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3", "ENDPOINT_URL_STS"),
            *("METADATA_ENDPOINT", "PROXY_URL", "CONTAINER_CREDENTIALS_FULL_URI"),
        ):
            monkeypatch.setenv(f"AWS_{name}", store.endpoint)
        for name in (
            *("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION"),
            *("BUCKET", "USER_AGENT", "ROLE_ARN", "ROLE_SESSION_NAME", "SSE_KMS_KEY_ID"),
        ):
            monkeypatch.setenv(f"AWS_{name}", CANARY)
        for name in ("REQUEST_PAYER", "S3_EXPRESS", "VIRTUAL_HOSTED_STYLE_REQUEST"):
            monkeypatch.setenv(f"AWS_{name}", "true")
        monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
        key = base64.b64encode(b"canary-4711-canary-4711-canary-4").decode()
        monkeypatch.setenv("AWS_SSE_CUSTOMER_KEY_BASE64", key)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true" if is_signed else "false")
        if is_signed:
            monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID", "source-key")
            monkeypatch.setenv("STILLHOUSE_SOURCES_S3_SECRET_ACCESS_KEY", "source-secret")
        settings.cache_clear()
        server.objects = dict([IMAGE])
        (file,) = (files := reader()).list_files()
        assert (file.name, files.read(file, 0, 5)) == ("a/1.png", bytes(5))
    assert store.requests == []
    sent = "".join(server.requests)
    kinds = [request.split()[0] for request in server.requests]
    assert (kinds[0], kinds[-1], "list-type=2" in sent) == ("HEAD", "GET", True)
    assert (sent.count("Credential=source-key/"), "authorization" in sent.lower()) == (
        (len(kinds), True) if is_signed else (0, False)
    )
    for secret in (CANARY, key, "server-side-encryption", "request-payer"):
        assert secret not in sent


@pytest.mark.parametrize("kind", ["same token", "early end"])
def test_incomplete_list_is_refused(server: RecordingServer, kind: str) -> None:
    keys = [(f"data/x/{number:04d}.png", 5) for number in range(s3_reader.LIST_BATCH)]

    def page(query: dict[str, list[str]], _count: int) -> bytes:
        if kind == "same token":
            return list_page(keys, "token")
        after = query.get("start-after", [""])[0]
        return list_page([key for key in keys if key[0] > after][:10], is_truncated=True)

    server.page = page
    problem = {
        "same token": r"the server lists data/x/0000.png again",
        "early end": r"the server ended the list at data/x/0009.png, before its end",
    }[kind]
    with pytest.raises(SourceRefusedError, match=rf"^s3://bucket/data/x cannot .*: {problem}$"):
        list(reader().list_files())


def test_failed_page_does_not_end_the_list(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [(f"data/x/{number:04d}.png", 5) for number in range(s3_reader.LIST_BATCH)]
    monkeypatch.setenv("STILLHOUSE_OBJECT_RETRY_TIMEOUT_S", "0.01")
    settings.cache_clear()
    server.page = lambda query, _count: (
        b"no list" if "continuation-token" in query else list_page(keys, "token")
    )
    with pytest.raises(SourceUnavailableError, match="does not respond"):
        list(S3Reader(parse_file_source("s3://bucket/data/x"), (0.01, 0.01)).list_files())


def test_empty_pages_end_with_the_time_limit_or_with_the_job(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.page = lambda _query, count: list_page([], f"token-{count}")
    with serve_source(files := reader()) as (channel, descriptor):
        os.write(descriptor, b"L" + bytes(16))
        wait_until(lambda: len(server.requests) > 2, 60, "the list has begun")
        os.close(descriptor)
        channel.close()
        wait_until(lambda: "source-channel" not in thread_names(), 60, "the list has ended")
    assert channel.unavailable is None
    files.close()
    monkeypatch.setattr(s3_reader, "LIST_TIMEOUT_S", 0.1)
    with pytest.raises(SourceRefusedError, match="no objects came for"):
        list(reader().list_files())
    count = len(server.requests)
    time.sleep(0.2)
    assert len(server.requests) <= count + 1


@pytest.mark.parametrize(
    ("objects", "source", "names"),
    [
        ({"data/x": 7}, "s3://bucket/data/x", ["x"]),
        ({"data/x": 0}, "s3://bucket/data/x", ["x"]),
        ({"data/x": 0, "data/x/a/1.png": 5}, "s3://bucket/data/x", ["a/1.png"]),
        ({"data/x": 7, "data/x/a/1.png": 5}, "s3://bucket/data/x/", ["a/1.png"]),
        ({"data/x/": 0, "data/x/a/1.png": 5}, "s3://bucket/data/x/", ["a/1.png"]),
    ],
)
def test_slash_and_empty_objects_decide_between_object_and_prefix(
    server: RecordingServer, objects: dict[str, int], source: str, names: list[str]
) -> None:
    server.objects = objects
    server.page = lambda _query, _count: list_page(
        [item for item in objects.items() if item[0].startswith("data/x/")]
    )
    files = reader(source)
    assert [file.name for file in files.list_files()] == names
    assert files.single == (names == ["x"])


def test_object_beside_its_prefix_is_refused_with_both_names(server: RecordingServer) -> None:
    server.objects = {"data/x": 7, "data/x/a/1.png": 5}
    server.page = lambda _query, _count: list_page([IMAGE])
    with pytest.raises(
        SourceRefusedError, match=r"data/x is an object, and a/1.png is below s3://bucket/data/x/;"
    ):
        list(reader().list_files())
