"""API keys of a project: made, listed, revoked. A secret is shown once and stored as its digest."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from starlette.responses import Response

from api.http import auth
from api.http.auth import JobWriter, Reader
from api.http.idempotency import KEYED, Created, once
from api.http.pagination import Page, PageAsked, page
from api.http.problems import Invalid, NotFound, Problem
from api.http.router import router
from kdcore.schema.base import Name, Spec
from kdcore.schema.validation.errors import Fault
from store.access import credentials
from store.access.credentials import Principal
from store.database import transaction
from store.ids import is_id
from store.tables import ApiKey

keys = router("/api-keys", "keys")

Scope = Literal["jobs:read", "jobs:write", "data:write", "admin"]


class KeyCreate(Spec):
    """A new key, which may do no more than the one that asks for it."""

    name: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=4)]


class KeyOut(BaseModel):
    """A key. ``key``, the secret, is there only in the answer that creates it."""

    id: str
    object: Literal["api_key"]
    name: str
    scopes: list[str]
    current: bool = Field(description="Whether this request was made with it")
    created_at: str
    revoked_at: str | None
    key: str | None = None


class KeyPage(Page):
    """Keys, the newest first; revoked ones stay in the list."""

    data: list[KeyOut]


def show(row: ApiKey, caller: Principal) -> dict[str, Any]:
    """A key as answers carry it."""
    names = ("id", "name", "scopes", "created_at", "revoked_at")
    current = row.id == caller.key_id
    return {"object": "api_key", "current": current} | {n: getattr(row, n) for n in names}


@keys.post("", status_code=201, dependencies=KEYED, response_model=KeyOut)
def create_key(body: KeyCreate, request: Request, caller: JobWriter) -> Response:
    """Create a key of this project; its secret is in this answer and never again."""
    beyond = [scope for scope in body.scopes if scope not in caller.scopes]
    if beyond:
        detail = f"your own key lacks {', '.join(beyond)}; a key can give no more than it has"
        raise Invalid([Fault(pointer="/scopes", code="scope_missing", detail=detail)])
    with transaction() as session:

        def create() -> Created:
            scopes = tuple(dict.fromkeys(body.scopes))
            secret = credentials.create_key(session, caller.project_id, body.name, scopes)
            row = session.scalars(
                select(ApiKey).where(ApiKey.digest == credentials.digest(secret))
            ).one()
            return Created(show(row, caller) | {"key": secret}, f"/v1/api-keys/{row.id}")

        return once(session, request, caller.project_id, create)


@keys.get("", response_model=KeyPage)
def list_keys(caller: Reader, asked: PageAsked) -> Response:
    """The project's keys, the newest first, without their secrets."""
    with transaction() as session:
        query = select(ApiKey).where(ApiKey.project_id == caller.project_id)
        return page(session, query, lambda row: show(row, caller), asked)


@keys.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_key(key_id: str, caller: JobWriter) -> Response:
    """Revoke a key: it is refused within seconds, and so are the logins made with it."""
    with transaction() as session:
        row = session.get(ApiKey, key_id, with_for_update=True) if is_id(key_id, "key") else None
        if row is None or row.project_id != caller.project_id:
            raise NotFound("API key")
        if not set(row.scopes) <= caller.scopes:
            raise Problem(403, "scope_missing", "this key may do more than yours: it cannot revoke")
        row.revoked_at = row.revoked_at or func.clock_timestamp()
    auth.forget_key(key_id)
    return Response(status_code=204)
