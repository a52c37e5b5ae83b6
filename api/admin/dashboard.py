"""The dashboard's files and its login. The pages use the public API and nothing else."""

from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Cookie, FastAPI, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from api.http import auth
from api.http.problems import Problem
from api.http.responses import reply
from api.http.routing import StrictRequest
from api.http.static import CompressedFiles
from store.access import credentials
from store.database import transaction
from store.settings import settings

FILES = Path(__file__).parents[2] / "dashboard"
pages = APIRouter(include_in_schema=False)


@pages.get("/")
@pages.get("/login")
def dashboard(request: Request, code: str | None = None) -> Response:
    """The page; with a one-time code, the login first."""
    if code is None:
        return FileResponse(FILES / "index.html", headers={"Cache-Control": "no-cache"})
    # A code in an address stays in the history: it is used up by this, and the address replaced.
    cookie = _by_code(code)
    response = RedirectResponse("/" if cookie else "/login#used", 303)
    return _with_cookie(response, request, cookie) if cookie else response


def _by_code(code: str) -> str | None:
    with transaction() as session:
        key_id = credentials.use_login_code(session, code)
        return credentials.open_session(session, key_id) if key_id else None


@pages.post("/session")
async def log_in(request: Request) -> Response:
    """Log in with an API key; the answer sets the cookie."""
    auth.require_same_origin(request)
    try:
        body = await StrictRequest(request.scope, request.receive).json()
    except ValueError:
        raise Problem(400, "malformed_json", "the body is not valid JSON") from None
    key = body.get("api_key") if isinstance(body, dict) else None
    cookie = await anyio.to_thread.run_sync(_by_key, key) if isinstance(key, str) else None
    if cookie is None:
        raise Problem(401, "unauthorized", "this key is not known, or not valid any more")
    return _with_cookie(reply({"status": "logged_in"}), request, cookie)


def _by_key(key: str) -> str | None:
    with transaction() as session:
        principal = credentials.by_key(session, key)
        return credentials.open_session(session, principal.key_id) if principal else None


@pages.delete("/session")
def log_out(
    request: Request, session_cookie: Annotated[str | None, Cookie(alias=auth.COOKIE)] = None
) -> Response:
    """Log out; the cookie is worth nothing afterwards."""
    auth.require_same_origin(request)
    if session_cookie:
        with transaction() as session:
            credentials.close_session(session, session_cookie)
        auth.forget("session", session_cookie)
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


def install(app: FastAPI) -> None:
    """The pages, and the files that they are made of."""
    app.include_router(pages)
    app.mount("/static", CompressedFiles(directory=FILES), name="static")
