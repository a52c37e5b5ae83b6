"""The API's address."""

import socket

import pytest

from stillhouse.local.errors import PortTakenError
from stillhouse.local.ports import free_port, local_url, url


def test_taken_port_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port} on 127.0.0.1 is taken"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 1023


def test_address_of_another_machine_is_reported_in_one_sentence() -> None:
    with pytest.raises(PortTakenError, match=r"Cannot listen on 192\.0\.2\.1 port 0"):
        free_port("192.0.2.1", 0)


def test_urls() -> None:
    assert url("::1", 80) == "http://[::1]:80"
    assert local_url("0.0.0.0", 80) == "http://127.0.0.1:80"  # noqa: S104 - nothing listens
    assert url("0.0.0.0", 80) == "http://0.0.0.0:80"  # noqa: S104 - nothing listens
