"""The dashboard: its files, and login and logout. Its pages use only the public API."""

import functools
import gzip
import os
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import orjson
from fastapi import APIRouter, Cookie, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

from api.http import auth
from api.http.problems import ProblemError, malformed_json
from api.http.responses import json_response
from api.http.routing import StrictQueryRoute, StrictRequest
from store.access import credentials
from store.database import transaction
from store.settings import settings

DASHBOARD_DIR = Path(__file__).parents[2] / "dashboard"
router = APIRouter(include_in_schema=False, route_class=StrictQueryRoute)
_TEXT = frozenset({".js", ".css", ".svg", ".html"})
_CACHE_SIZE = 500
"""Compressed files in memory: several times the number of the dashboard's files."""


@router.get("/")
@router.get("/login")
def dashboard(request: Request, code: str | None = None) -> Response:
    """Send the page; a one-time code in the query logs in first."""
    if code is None:
        return FileResponse(DASHBOARD_DIR / "index.html", headers={"Cache-Control": "no-cache"})
    # The browser keeps the address in its history, so the code is used up and redirected away.
    cookie = _session_from_code(code)
    response = RedirectResponse("/" if cookie else "/login#used", 303)
    return _with_cookie(response, request, cookie) if cookie else response


def _session_from_code(code: str) -> str | None:
    with transaction() as session:
        key_id = credentials.use_login_code(session, code)
        return credentials.create_dashboard_session(session, key_id) if key_id else None


@router.post("/session")
async def log_in(request: Request) -> Response:
    """Log in with an API key; the response sets the session cookie."""
    auth.require_same_origin(request)
    try:
        body = await StrictRequest(request.scope, request.receive).json()
    except orjson.JSONDecodeError as error:
        raise malformed_json(error.msg, error.pos) from None
    key = body.get("api_key") if isinstance(body, dict) else None
    cookie = (
        await anyio.to_thread.run_sync(_session_from_key, key) if isinstance(key, str) else None
    )
    if cookie is None:
        raise ProblemError(401, "unauthorized", "the API key is unknown or revoked")
    return _with_cookie(json_response({"status": "logged_in"}), request, cookie)


def _session_from_key(key: str) -> str | None:
    with transaction() as session:
        principal = credentials.authenticate_key(session, key)
        return (
            credentials.create_dashboard_session(session, principal.key_id) if principal else None
        )


@router.delete("/session")
def log_out(
    request: Request, session_cookie: Annotated[str | None, Cookie(alias=auth.COOKIE)] = None
) -> Response:
    """Log out: delete the session, so that its cookie becomes invalid."""
    auth.require_same_origin(request)
    if session_cookie:
        with transaction() as session:
            credentials.delete_dashboard_session(session, session_cookie)
        auth.evict_credential("session", session_cookie)
    response = Response(status_code=204)
    response.delete_cookie(auth.COOKIE, path="/")
    return response


def _with_cookie(response: Response, request: Request, cookie: str) -> Response:
    response.set_cookie(
        auth.COOKIE,
        cookie,
        max_age=int(settings().session_s),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


class CompressedFiles(StaticFiles):
    """Static files, gzipped for clients that accept the encoding."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if not isinstance(response, FileResponse) or response.status_code != 200:
            return response
        file = Path(response.path)
        if file.suffix not in _TEXT:
            return response
        headers = {
            # Weak, because the tag is the same for both encodings (RFC 9110, 8.8.1).
            "ETag": f"W/{response.headers['etag']}",
            "Last-Modified": response.headers["last-modified"],
            "Vary": "Accept-Encoding",
        }
        if "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
            response.headers.update(headers)
            return response
        body = _gzip_file(file, os.stat(file).st_mtime_ns)
        headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=response.media_type)


@functools.lru_cache(_CACHE_SIZE)
def _gzip_file(file: Path, _mtime_ns: int) -> bytes:
    return gzip.compress(file.read_bytes(), 9, mtime=0)


@functools.cache
def _static_files() -> CompressedFiles:
    return CompressedFiles(directory=DASHBOARD_DIR)


async def send_file(request: Request) -> Response:
    """Send a file of the dashboard; 404 for any other path."""
    return await _static_files().get_response(request.path_params["path"], request.scope)


router.add_route("/static/{path:path}", send_file, include_in_schema=False)
