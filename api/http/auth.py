"""Who asks. Everything under /v1 wants a key, or the dashboard's cookie from the same origin."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from api.http.problems import Problem
from store.access import credentials
from store.access.credentials import Principal
from store.database import reading

COOKIE = "stillhouse_session"
CACHE_S = 3.0  # how long a revoked key may still work
CACHE_SIZE = 10_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer stk_…`")
_known: dict[tuple[str, bytes], tuple[float, Principal]] = {}


async def authenticate(request: Request) -> Principal:
    """Whose request this is; a 401 problem for nobody's, a 403 for a foreign page's."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return await _lookup("key", secret.strip())
    cookie = request.cookies.get(COOKIE)
    if cookie:
        require_same_origin(request)
        return await _lookup("session", cookie)
    raise _unauthorized("send an API key: Authorization: Bearer <key>")


def require_same_origin(request: Request) -> None:
    """The browser sends a cookie whoever asks, so changes must come from our own pages."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # Without the scheme: behind a proxy, ours is not the one that the browser sees.
    host = "" if origin is None else origin.partition("://")[2]
    if not (site == "same-origin" or (site is None and host == request.url.netloc)):
        raise Problem(403, "cross_origin", "a change by cookie must come from the dashboard itself")


async def _lookup(kind: str, secret: str) -> Principal:
    place = (kind, credentials.digest(secret))
    found = _known.get(place)
    if found is not None and time.monotonic() - found[0] < CACHE_S:
        return found[1]
    principal = await anyio.to_thread.run_sync(_read, kind, secret)
    if principal is None:
        _known.pop(place, None)
        raise _unauthorized("this key or login is not known, or not valid any more")
    if len(_known) >= CACHE_SIZE:
        _known.clear()
    _known[place] = (time.monotonic(), principal)
    return principal


def _read(kind: str, secret: str) -> Principal | None:
    with reading() as session:
        by = credentials.by_key if kind == "key" else credentials.by_session
        return by(session, secret)


def forget(kind: str, secret: str) -> None:
    """Do not remember this key or login any longer."""
    _known.pop((kind, credentials.digest(secret)), None)


def forget_key(key_id: str) -> None:
    """Remember no longer what this key, or a login with it, may do. Other processes follow."""
    for place in [place for place, (_, caller) in _known.items() if caller.key_id == key_id]:
        _known.pop(place, None)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def allowed(scope: str) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency: the caller, if its key has the scope."""

    async def check(request: Request) -> Principal:  # not one of the threads is needed for it
        caller: Principal = request.state.caller
        if scope not in caller.scopes:
            raise Problem(403, "scope_missing", f"this key lacks the scope {scope}")
        return caller

    return check


Reader = Annotated[Principal, Depends(allowed("jobs:read"))]
JobWriter = Annotated[Principal, Depends(allowed("jobs:write"))]
DataWriter = Annotated[Principal, Depends(allowed("data:write"))]
Admin = Annotated[Principal, Depends(allowed("admin"))]
