"""`ApiConnection`: the API's address, the proxy on the way, and an HTTP client for both.

The client connects to this machine directly: a proxy could not reach the user's loopback address.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from stillhouse.errors import (
    ApiError,
    ConnectionSettingsError,
    ServiceUnreachableError,
    StillhouseError,
    UnexpectedResponseError,
)

TIMEOUT_S = 60
UNAVAILABLE_STATUSES = (502, 503, 504)
"""The service, or a server in front of it, is unavailable for a while."""
_API_PATH = re.compile(r"/v1(/.*)?$")


class ApiConnection:
    """How to reach one Stillhouse.

    Args:
        url: the address: `http://HOST:PORT` or `https://HOST`. A path from `/v1` on and a fragment
            are ignored; the scheme may be missing for this machine.

    Raises ConnectionSettingsError.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_service_url(url)
        self._host = urlsplit(self.url).hostname or ""
        self.is_local = is_loopback(self._host)
        self.proxy = None if self.is_local else _proxy_for(self.url)

    def open(self, api_key: str) -> httpx.Client:
        """Return an HTTP client that sends the key. Raises ConnectionSettingsError."""
        headers = {"Authorization": f"Bearer {_check_key(api_key)}"}
        certificates = _tls_context(self.url)
        try:
            return httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=TIMEOUT_S,
                trust_env=not self.is_local,
                verify=certificates,
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            if self.is_local:  # no proxy of the environment is used
                raise
            raise ConnectionSettingsError(
                f"a proxy of the environment cannot be used: {error}; set "
                "https_proxy or http_proxy to http://HOST:PORT, or add "
                f"{self._host} to no_proxy"
            ) from None

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachableError:
        """Return the error for a request without a response."""
        reason = str(error) or repr(error)
        advice = ""
        if self.proxy:
            advice = f"{self._through_proxy()}; add {self._host} to no_proxy to connect directly"
        elif self.is_local and isinstance(error, httpx.ConnectError):
            advice = "; `stillhouse up` starts the local service, and STILLHOUSE_URL names another"
        return ServiceUnreachableError(f"{self.url} cannot be reached: {reason}{advice}")

    def refusal(self, response: httpx.Response) -> StillhouseError:
        """Return the error for a response that is no result."""
        from_api = response.is_error and "x-request-id" in response.headers
        if from_api or response.status_code in UNAVAILABLE_STATUSES:
            return ApiError(response)
        status = f"{response.status_code} {response.reason_phrase}".strip()
        location = response.headers.get("location")
        target = f" to {location}" if location else ""
        return UnexpectedResponseError(
            f"the response of {self.url} ({status}{target}) is not from Stillhouse"
            f"{self._through_proxy() or ': check the address'}"
        )

    def _through_proxy(self) -> str:
        return f" (through the proxy {self.proxy} of the environment)" if self.proxy else ""


def parse_service_url(text: str) -> str:
    """Return the address of the API, without the path of a page or a route.

    `localhost:8000`, `http://host/v1` and `http://host/#/jobs` are read. Raises
    ConnectionSettingsError, which does not repeat a user name or password.
    """
    stripped = text.strip()
    url = stripped if "://" in stripped else f"http://{stripped}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise ConnectionSettingsError(_form("it cannot be read")) from None
    if parts.scheme not in ("http", "https"):
        raise ConnectionSettingsError(_form(f"its scheme is {parts.scheme}"))
    if not host or re.search(r"[\s\\]", url):
        raise ConnectionSettingsError(_form("it has no valid host"))
    if "@" in parts.netloc:
        raise ConnectionSettingsError(
            _form("it has a user name; the API key goes into STILLHOUSE_API_KEY")
        )
    if "://" not in stripped and not is_loopback(host):
        raise ConnectionSettingsError(_form(f"{stripped!r} has no scheme"))
    if port == 0:
        raise ConnectionSettingsError(_form("its port is 0"))
    path = _API_PATH.sub("", parts.path).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def is_loopback(host: str) -> bool:
    """Whether the host is this machine: `localhost`, 127.0.0.0/8, `::1` or the wildcard address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _form(fault: str) -> str:
    return f"the address of the service (STILLHOUSE_URL) is invalid: {fault}; it should be like http://127.0.0.1:8000"


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for this address, without its password."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _tls_context(url: str) -> ssl.SSLContext:
    """Return what verifies the service: the certificates of the environment, also for loopback.

    For an http address they are not read, and the context trusts no certificate at all.
    """
    if not url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        path = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise ConnectionSettingsError(
            f"the certificates in {path} cannot be read: {error}; correct or unset "
            "SSL_CERT_FILE and SSL_CERT_DIR"
        ) from None


def _check_key(api_key: str) -> str:
    """Return the key without surrounding spaces. The error does not repeat it."""
    key = api_key.strip()
    if not re.fullmatch(r"[!-~]+", key):
        fault = "is empty" if not key else "has a space, a line break or a letter that is not ASCII"
        raise ConnectionSettingsError(f"the API key {fault}; copy it again (STILLHOUSE_API_KEY)")
    return key
