"""API keys of a project. A secret is returned once and stored only as its digest."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import auth
from api.http.auth import JobReader, JobWriter
from api.http.idempotency import CreatedResource, idempotent_post, run_idempotent
from api.http.pagination import Page, PageQueryDep
from api.http.problems import InvalidRequestError, NotFoundError, ProblemError
from api.http.routing import v1_router
from api.http.scoping import list_rows
from kdcore.schema.base import FrozenModel, Name
from store.access import credentials
from store.access.credentials import Principal
from store.database import transaction
from store.ids import is_id
from store.tables import ApiKey

router = v1_router("/api-keys", "api keys")

ApiKeyScope = Literal["jobs:read", "jobs:write", "data:write", "admin"]


class ApiKeyCreate(FrozenModel):
    """A new API key. Its scopes are a subset of the scopes of the key that creates it."""

    name: Name
    scopes: Annotated[tuple[ApiKeyScope, ...], Field(min_length=1, max_length=4)]


class ApiKeyOut(BaseModel):
    """An API key. Only the response that creates it contains ``key``, the secret."""

    id: str
    object: Literal["api_key"]
    name: str
    scopes: list[str]
    current: bool = Field(description="Whether this request uses the key")
    created_at: str
    revoked_at: str | None
    key: str | None = None


class ApiKeyPage(Page[ApiKeyOut]):
    """API keys, the newest first, including revoked ones."""


def serialize_api_key(row: ApiKey, caller: Principal) -> dict[str, Any]:
    """The body of an ``ApiKeyOut`` without the secret."""
    names = ("id", "name", "scopes", "created_at", "revoked_at")
    current = row.id == caller.key_id
    return {"object": "api_key", "current": current} | {n: getattr(row, n) for n in names}


@idempotent_post(router, response_model=ApiKeyOut)
def create_api_key(body: ApiKeyCreate, request: Request, caller: JobWriter) -> Response:
    """Create an API key of the project. Only this response contains its secret."""
    missing_scopes = [scope for scope in body.scopes if scope not in caller.scopes]
    if missing_scopes:
        detail = (
            f"the API key of this request lacks {', '.join(missing_scopes)} and cannot grant them"
        )
        raise InvalidRequestError.of("/scopes", "scope_missing", detail)

    def create(session: Session) -> CreatedResource:
        scopes = tuple(dict.fromkeys(body.scopes))
        secret = credentials.create_key(session, caller.project_id, body.name, scopes)
        row = session.scalars(
            select(ApiKey).where(ApiKey.digest == credentials.digest(secret))
        ).one()
        data = serialize_api_key(row, caller) | {"key": secret}
        return CreatedResource(data, f"/v1/api-keys/{row.id}")

    return run_idempotent(request, caller, create)


@router.get("", response_model=ApiKeyPage)
def list_api_keys(caller: JobReader, page_query: PageQueryDep) -> Response:
    """List the project's API keys, the newest first, without their secrets."""
    return list_rows(ApiKey, caller, page_query, lambda row: serialize_api_key(row, caller))


@router.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_api_key(key_id: str, caller: JobWriter) -> Response:
    """Revoke an API key. Within seconds, it and the dashboard sessions of it become invalid."""
    with transaction() as session:
        row = session.get(ApiKey, key_id, with_for_update=True) if is_id(key_id, "key") else None
        if row is None or row.project_id != caller.project_id:
            raise NotFoundError("API key")
        if not set(row.scopes) <= caller.scopes:
            raise ProblemError(
                403, "scope_missing", "the key to revoke has scopes that this API key lacks"
            )
        row.revoked_at = row.revoked_at or func.clock_timestamp()
    auth.evict_key(key_id)
    return Response(status_code=204)
