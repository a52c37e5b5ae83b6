"""API keys of a project: made, listed, revoked. A secret is shown once and stored as its digest."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from starlette.responses import Response

from api.http import auth
from api.http.auth import JobReader, JobWriter
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, CreatedResource, run_idempotent
from api.http.pagination import Page, PageQueryDep, paginate
from api.http.problems import InvalidRequestError, NotFoundError, ProblemError
from api.http.router import v1_router
from kdcore.schema.base import FrozenModel, Name
from kdcore.schema.validation.errors import ValidationIssue
from store.access import credentials
from store.access.credentials import Principal
from store.database import transaction
from store.ids import is_id
from store.tables import ApiKey

api_keys_router = v1_router("/api-keys", "keys")

ApiKeyScope = Literal["jobs:read", "jobs:write", "data:write", "admin"]


class ApiKeyCreate(FrozenModel):
    """A new key, which may do no more than the one that asks for it."""

    name: Name
    scopes: Annotated[tuple[ApiKeyScope, ...], Field(min_length=1, max_length=4)]


class ApiKeyOut(BaseModel):
    """A key. ``key``, the secret, is there only in the answer that creates it."""

    id: str
    object: Literal["api_key"]
    name: str
    scopes: list[str]
    current: bool = Field(description="Whether this request was made with it")
    created_at: str
    revoked_at: str | None
    key: str | None = None


class ApiKeyPage(Page):
    """Keys, the newest first; revoked ones stay in the list."""

    data: list[ApiKeyOut]


def serialize_api_key(row: ApiKey, caller: Principal) -> dict[str, Any]:
    """A key as answers carry it."""
    names = ("id", "name", "scopes", "created_at", "revoked_at")
    current = row.id == caller.key_id
    return {"object": "api_key", "current": current} | {n: getattr(row, n) for n in names}


@api_keys_router.post(
    "", status_code=201, dependencies=IDEMPOTENCY_DEPENDENCIES, response_model=ApiKeyOut
)
def create_key(body: ApiKeyCreate, request: Request, caller: JobWriter) -> Response:
    """Create a key of this project; its secret is in this answer and never again."""
    missing_scopes = [scope for scope in body.scopes if scope not in caller.scopes]
    if missing_scopes:
        detail = (
            f"your own key lacks {', '.join(missing_scopes)}; a key can give no more than it has"
        )
        raise InvalidRequestError(
            [ValidationIssue(pointer="/scopes", code="scope_missing", detail=detail)]
        )
    with transaction() as session:

        def create() -> CreatedResource:
            scopes = tuple(dict.fromkeys(body.scopes))
            secret = credentials.create_key(session, caller.project_id, body.name, scopes)
            row = session.scalars(
                select(ApiKey).where(ApiKey.digest == credentials.digest(secret))
            ).one()
            return CreatedResource(
                serialize_api_key(row, caller) | {"key": secret}, f"/v1/api-keys/{row.id}"
            )

        return run_idempotent(session, request, caller.project_id, create)


@api_keys_router.get("", response_model=ApiKeyPage)
def list_keys(caller: JobReader, page_query: PageQueryDep) -> Response:
    """The project's keys, the newest first, without their secrets."""
    with transaction() as session:
        query = select(ApiKey).where(ApiKey.project_id == caller.project_id)
        return paginate(session, query, lambda row: serialize_api_key(row, caller), page_query)


@api_keys_router.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_key(key_id: str, caller: JobWriter) -> Response:
    """Revoke a key: it is refused within seconds, and so are the logins made with it."""
    with transaction() as session:
        row = session.get(ApiKey, key_id, with_for_update=True) if is_id(key_id, "key") else None
        if row is None or row.project_id != caller.project_id:
            raise NotFoundError("API key")
        if not set(row.scopes) <= caller.scopes:
            raise ProblemError(
                403, "scope_missing", "this key may do more than yours: it cannot revoke"
            )
        row.revoked_at = row.revoked_at or func.clock_timestamp()
    auth.evict_key(key_id)
    return Response(status_code=204)
