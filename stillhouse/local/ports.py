"""The API's address: check that its port is free, and write it as a URL."""

from __future__ import annotations

import errno
import socket

from stillhouse.local.errors import PortTakenError

WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the addresses to connect to


def free_port(host: str, port: int) -> int:
    """Return `port` if it is free, or any free port for 0. Raises PortTakenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As in the server: an address whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            return int(probe.getsockname()[1])
    except OverflowError:
        raise PortTakenError(f"Port {port} does not exist; choose one from 0 to 65535.") from None
    except OSError as error:
        raise PortTakenError(_bind_error_message(host, port, error)) from None


def url(host: str, port: int) -> str:
    """Return `http://HOST:PORT`, with brackets around an IPv6 address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """Return the URL that this machine uses for a server that listens on `host`."""
    return url(WILDCARD_HOSTS.get(host, host), port)


def _bind_error_message(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program; "
            "choose another port with --port, or --port 0 for a free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} needs more rights; choose a port above 1023."
    return f"Cannot listen on {host} port {port}: {error.strerror or error}; check --host."
