"""Authentication and scopes: an API key, or the dashboard's session cookie from the same origin."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from api.http.problems import ProblemError
from store.access import credentials
from store.access.credentials import Principal
from store.database import read_session

COOKIE = "stillhouse_session"
CACHE_S = 3.0
"""Seconds for which another API process may still accept a revoked key."""
CACHE_SIZE = 10_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer stk_…`")
_principal_cache: dict[tuple[str, bytes], tuple[float, Principal]] = {}


async def authenticate(request: Request) -> Principal:
    """Return the owner of the request's credentials.

    Raises:
        ProblemError: 401 without valid credentials, 403 for a cookie from another origin.
    """
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return await _lookup("key", secret.strip())
    cookie = request.cookies.get(COOKIE)
    if cookie:
        require_same_origin(request)
        return await _lookup("session", cookie)
    raise _unauthorized_error("send an API key: Authorization: Bearer <key>")


def require_same_origin(request: Request) -> None:
    """Reject a change that another site's page sends with the dashboard's cookie (CSRF).

    Raises:
        ProblemError: 403 ``cross_origin``.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # Without the scheme, because a proxy in front may terminate TLS.
    host = "" if origin is None else origin.partition("://")[2]
    if not (site == "same-origin" or (site is None and host == request.url.netloc)):
        raise ProblemError(
            403,
            "cross_origin",
            "a change by session cookie must come from the dashboard's own pages",
        )


async def _lookup(kind: str, secret: str) -> Principal:
    cache_key = (kind, credentials.digest(secret))
    cached = _principal_cache.get(cache_key)
    if cached is not None and time.monotonic() - cached[0] < CACHE_S:
        return cached[1]
    principal = await anyio.to_thread.run_sync(_load_principal, kind, secret)
    if principal is None:
        _principal_cache.pop(cache_key, None)
        raise _unauthorized_error("the API key or session is unknown, expired or revoked")
    if len(_principal_cache) >= CACHE_SIZE:
        _principal_cache.clear()
    _principal_cache[cache_key] = (time.monotonic(), principal)
    return principal


def _load_principal(kind: str, secret: str) -> Principal | None:
    with read_session() as session:
        lookup = credentials.authenticate_key if kind == "key" else credentials.authenticate_cookie
        return lookup(session, secret)


def evict_credential(kind: str, secret: str) -> None:
    """Drop this API key or session from the cache of this process."""
    _principal_cache.pop((kind, credentials.digest(secret)), None)


def evict_key(key_id: str) -> None:
    """Drop an API key and its sessions from the cache; other processes follow after ``CACHE_S``."""
    for cache_key, (_, caller) in list(_principal_cache.items()):
        if caller.key_id == key_id:
            _principal_cache.pop(cache_key, None)


def _unauthorized_error(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def require_scope(scope: str) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that returns the caller, or raises a 403 if its key lacks ``scope``."""

    async def check(request: Request) -> Principal:  # async, so that it takes no thread
        caller: Principal = request.state.caller
        if scope not in caller.scopes:
            raise ProblemError(403, "scope_missing", f"this API key lacks the scope {scope}")
        return caller

    return check


JobReader = Annotated[Principal, Depends(require_scope("jobs:read"))]
JobWriter = Annotated[Principal, Depends(require_scope("jobs:write"))]
DataWriter = Annotated[Principal, Depends(require_scope("data:write"))]
Admin = Annotated[Principal, Depends(require_scope("admin"))]
