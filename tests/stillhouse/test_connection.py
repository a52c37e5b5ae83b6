"""The client's address, its proxies, its key."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stillhouse.client import (
    Client,
    ConnectionSettingsError,
    ServiceUnreachableError,
    UnexpectedResponseError,
)
from stillhouse.connection import is_loopback, parse_service_url

CANARY = "canary-4711"
PROXY = f"http://user:{CANARY}@127.0.0.1:9"


class _Page(BaseHTTPRequestHandler):
    """Responds to every request with a web page, as a proxy does."""

    def do_GET(self) -> None:
        status = 403 if "forbidden" in self.path else 200
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Write nothing to standard error."""


@pytest.fixture
def page_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" http://127.0.0.1:8000/v1/ ", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("https://example.org/v1/jobs", "https://example.org"),
        ("http://127.0.0.1:8000/#/jobs", "http://127.0.0.1:8000"),
        ("https://example.org/distillery/v1", "https://example.org/distillery"),
        ("https://v1.example.org", "https://v1.example.org"),
    ],
)
def test_usual_forms_of_the_address_are_read(text: str, url: str) -> None:
    assert parse_service_url(text) == url


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no valid host"),
        ("http://", "no valid host"),
        ("example.org:8000", "'example.org:8000' has no scheme"),
        ("ftp://example.org", "its scheme is ftp"),
        ("https://example.org:port", "cannot be read"),
        ("http://example.org:99999", "cannot be read"),
        ("http://example.org:0", "its port is 0"),
        (f"https://user:{CANARY}@example.org", "it has a user name"),
        (f"user:{CANARY}@example.org", "it has a user name"),
    ],
)
def test_other_addresses_are_named(text: str, fault: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="STILLHOUSE_URL") as caught:
        Client(text, "key")
    assert fault in str(caught.value)
    assert "http://127.0.0.1:8000" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("key", ["", f"{CANARY}\nx", f"{CANARY}é", f"{CANARY} x"])
def test_key_that_no_header_can_hold_is_named_and_not_repeated(key: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="STILLHOUSE_API_KEY") as caught:
        Client("localhost:1", key)
    assert CANARY not in str(caught.value)


def test_this_machine_is_never_reached_through_a_proxy(
    page_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    for host in ("127.0.0.1", "localhost"):
        with (
            Client(f"{host}:{page_port}", "key") as client,
            pytest.raises(UnexpectedResponseError, match="is not from Stillhouse: check"),
        ):
            client.get("/v1/jobs")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    with Client(f"127.0.0.1:{page_port}", "key") as client, pytest.raises(UnexpectedResponseError):
        client.get("/v1/jobs")


def test_loopback_has_many_names() -> None:
    # Nothing listens on the wildcard address.
    loopback = ("localhost", "api.localhost", "127.3.2.1", "::1", "0.0.0.0")  # noqa: S104
    assert all(is_loopback(host) for host in loopback)
    assert not any(is_loopback(host) for host in ("example.org", "10.0.0.1", "localhost.example"))


def test_unreachable_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    with (
        Client("http://stillhouse.example", "key") as client,
        pytest.raises(ServiceUnreachableError, match=r"the proxy http://127\.0\.0\.1:9") as caught,
    ):
        client.get("/v1/jobs")
    assert "add stillhouse.example to no_proxy" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/forbidden"])
def test_page_of_a_proxy_is_no_response_of_the_service(
    page_port: int, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:{CANARY}@127.0.0.1:{page_port}")
    with (
        Client("http://stillhouse.example", "key") as client,
        pytest.raises(UnexpectedResponseError, match="through the proxy http://127") as caught,
    ):
        client.get(path)
    assert CANARY not in str(caught.value)


def test_proxy_that_the_client_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"socks5://user:{CANARY}@proxy:1080")
    with pytest.raises(ConnectionSettingsError, match="a proxy of the environment") as caught:
        Client("http://stillhouse.example", "key")
    assert CANARY not in str(caught.value)


def test_stopped_service_on_this_machine_is_named_with_the_way_to_start_it() -> None:
    with (
        Client("http://127.0.0.1:9", "key") as client,
        pytest.raises(ServiceUnreachableError, match=r"127\.0\.0\.1:9 cannot be reached") as caught,
    ):
        client.get("/v1/jobs")
    assert "`stillhouse up`" in str(caught.value)


def test_certificates_that_cannot_be_read_are_named(
    page_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/gone.pem")
    for host in ("127.0.0.1", "stillhouse.example"):
        with pytest.raises(ConnectionSettingsError, match=r"/gone\.pem.*SSL_CERT_FILE"):
            Client(f"https://{host}", "key")
    with (
        Client(f"http://127.0.0.1:{page_port}", "key") as client,
        pytest.raises(UnexpectedResponseError),
    ):
        client.get("/v1/jobs")


def test_invalid_host_is_not_blamed_on_a_proxy() -> None:
    with pytest.raises(ConnectionSettingsError, match="STILLHOUSE_URL"):
        Client("http://ü..example", "key")
