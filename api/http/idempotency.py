"""``Idempotency-Key``: a repeated request gets the stored response and creates nothing twice.

The key is stored in the transaction that creates the resource, so a failed request stores nothing.
A replay does not check the request again: checks that depend on other rows belong into ``create``.
"""

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

import orjson
from cryptography.fernet import Fernet, InvalidToken
from fastapi import APIRouter, Depends, Header, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.problems import ConflictError, ProblemError
from api.http.responses import dump_json
from store.access.credentials import Principal
from store.database import transaction
from store.settings import settings
from store.tables import Base, IdempotencyKey

HEADER_NAME = "idempotency-key"
MAX_LENGTH = 255
Endpoint = TypeVar("Endpoint", bound=Callable[..., Response])


def idempotency_key_header(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description=f"1 to {MAX_LENGTH} printable characters. For 24 hours, the same request "
            "with the same key gets the stored response with `Idempotent-Replayed: true` and "
            "creates nothing",
        ),
    ] = None,
) -> None:
    """Document the header of a creating route in OpenAPI; :func:`run_idempotent` reads it."""


def idempotent_post(
    router: APIRouter,
    path: str = "",
    *,
    response_model: type[BaseModel],
    route_class: type[APIRoute] | None = None,
    responses: dict[int | str, dict[str, Any]] | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Register the decorated function as a ``POST`` that returns 201 and takes the header.

    ``route_class`` replaces the router's class of routes, for a body that needs further validation.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            status_code=201,
            dependencies=[Depends(idempotency_key_header)],
            response_model=response_model,
            responses=responses,
            route_class_override=route_class,
        )
        return endpoint

    return register


class CreatedResource(NamedTuple):
    """The body and the address of a new resource."""

    data: Any
    """Values that have a JSON representation, or a pydantic model."""
    location: str


def run_idempotent(
    request: Request, caller: Principal, create: Callable[[Session], CreatedResource]
) -> Response:
    """Run ``create`` in a transaction and return its 201, or replay the stored response.

    Raises:
        ProblemError: 400 for a malformed key, 422 for a key that belongs to another request.
        ConflictError: another request with this key is still running, or its response is stored
            under another secret key.
    """
    key = request.headers.get(HEADER_NAME)
    if key is None:
        with transaction() as session:
            return _created_response(create(session))
    if not 0 < len(key) <= MAX_LENGTH or not key.isprintable():
        detail = f"Idempotency-Key must have 1 to {MAX_LENGTH} printable characters"
        raise ProblemError(400, "bad_idempotency_key", detail)
    digest = _digest(request)
    with transaction() as session:
        _lock_key(session, caller.project_id, key)
        stored = session.get(IdempotencyKey, (caller.project_id, key))
        if stored is not None:
            return _replay(stored, digest)
        response = _created_response(create(session))
        session.add(
            IdempotencyKey(
                project_id=caller.project_id,
                key=key,
                digest=digest,
                status=response.status_code,
                headers={"Location": response.headers["location"]},
                body=_encrypt(bytes(response.body)),
            )
        )
        return response


def create_row(
    request: Request, caller: Principal, row: Base, serialize: Callable[[Any], Any]
) -> Response:
    """Store ``row``, which has an ``id``, and return its 201; see :func:`run_idempotent`."""

    def create(session: Session) -> CreatedResource:
        session.add(row)
        session.flush()
        session.refresh(row)
        row_id = row.__mapper__.primary_key_from_instance(row)[0]
        return CreatedResource(serialize(row), f"{request.url.path}/{row_id}")

    return run_idempotent(request, caller, create)


def _lock_key(session: Session, project_id: str, key: str) -> None:
    """Hold the key until the transaction ends; a concurrent request with it fails immediately."""
    lock_id = int.from_bytes(
        hashlib.sha256(f"{project_id}/{key}".encode()).digest()[:8], signed=True
    )
    if not session.scalar(select(func.pg_try_advisory_xact_lock(lock_id))):
        detail = "another request with this Idempotency-Key is still running; retry in a second"
        conflict = ConflictError("idempotency_in_flight", detail)
        conflict.headers["Retry-After"] = "1"
        raise conflict


def _digest(request: Request) -> str:
    parsed_body = getattr(request.state, "parsed_body", None)
    body = orjson.dumps(parsed_body, option=orjson.OPT_SORT_KEYS)
    route = f"{request.method} {request.url.path}\n".encode()
    return hashlib.sha256(route + body).hexdigest()


def _created_response(created: CreatedResource) -> Response:
    return Response(
        dump_json(created.data), 201, {"Location": created.location}, media_type="application/json"
    )


def _replay(stored: IdempotencyKey, digest: str) -> Response:
    if stored.digest != digest:
        raise ProblemError(
            422,
            "idempotency_mismatch",
            "this Idempotency-Key belongs to another request; send a new key",
        )
    headers = {**stored.headers, "Idempotent-Replayed": "true"}
    try:
        body = _fernet().decrypt(stored.body)
    except InvalidToken:
        detail = (
            f"an earlier request with this key created {stored.headers['Location']}; its "
            "response cannot be read, because the server's secret key has changed since then: get "
            "that resource, or send a new key to create another one"
        )
        raise ConflictError("idempotency_unreadable", detail) from None
    return Response(body, stored.status, headers, media_type="application/json")


def _encrypt(body: bytes) -> str:
    """Encrypt a response body, because it may contain a new API key."""
    return _fernet().encrypt(body).decode()


@functools.cache
def _fernet() -> Fernet:
    secret = settings().secret_key.get_secret_value().encode()
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"idempotency" + secret).digest()))
