"""``Idempotency-Key``: the same request again gets the same answer, and is done once.

The key is stored in the transaction of what it created; a failed request stores nothing. Whatever
may be wrong by now with what a request refers to, a key that was answered is answered again: such
checks belong into ``create``.
"""

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import orjson
from cryptography.fernet import Fernet
from fastapi import Depends, Header, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.problems import ConflictError, ProblemError
from api.http.responses import dump_json
from store.settings import settings
from store.tables import IdempotencyKey

HEADER_NAME = "idempotency-key"
MAX_LENGTH = 255


def idempotency_key_header(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description=f"1 to {MAX_LENGTH} printable characters: the same request with the same "
            "key gets the same answer for 24 hours, with `Idempotent-Replayed: true`, and is done "
            "once",
        ),
    ] = None,
) -> None:
    """Describe the header of a creating route; :func:`once` reads it."""


IDEMPOTENCY_DEPENDENCIES = [Depends(idempotency_key_header)]


class CreatedResource(NamedTuple):
    """What a creating request answers."""

    data: dict[str, Any]
    location: str


def run_idempotent(
    session: Session, request: Request, project_id: str, create: Callable[[], CreatedResource]
) -> Response:
    """Run ``create`` and answer 201, or replay the answer that this key was given before."""
    key = request.headers.get(HEADER_NAME)
    if key is None:
        return _created_response(create())
    if not 0 < len(key) <= MAX_LENGTH or not key.isprintable():
        detail = f"Idempotency-Key must have 1 to {MAX_LENGTH} printable characters"
        raise ProblemError(400, "bad_idempotency_key", detail)
    _lock_key(session, project_id, key)
    digest = _digest(request)
    stored = session.get(IdempotencyKey, (project_id, key))
    if stored is not None:
        return _replay(stored, digest)
    response = _created_response(create())
    session.add(
        IdempotencyKey(
            project_id=project_id,
            key=key,
            digest=digest,
            status=response.status_code,
            headers={"Location": response.headers["location"]},
            body=_encrypt(bytes(response.body)),
        )
    )
    return response


def _lock_key(session: Session, project_id: str, key: str) -> None:
    """The key is this transaction's until it ends; a second request with it is told so at once."""
    lock_id = int.from_bytes(
        hashlib.sha256(f"{project_id}/{key}".encode()).digest()[:8], signed=True
    )
    if not session.scalar(select(func.pg_try_advisory_xact_lock(lock_id))):
        detail = "a request with this Idempotency-Key is still in flight"
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
            "this Idempotency-Key was used with another request; take a new key",
        )
    headers = {**stored.headers, "Idempotent-Replayed": "true"}
    return Response(_decrypt(stored.body), stored.status, headers, media_type="application/json")


def _encrypt(body: bytes) -> str:
    """The answer as it is stored: it may hold a new API key, which no row may show."""
    return _fernet().encrypt(body).decode()


def _decrypt(encrypted: str) -> bytes:
    return _fernet().decrypt(encrypted)


@functools.cache
def _fernet() -> Fernet:
    secret = settings().secret_key.get_secret_value().encode()
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"idempotency" + secret).digest()))
