"""Uploads: parts are objects of their own until the upload is verified as one file."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from fastapi import Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from typing_extensions import override

from api.http import scoping
from api.http.problems import ConflictError, InvalidRequestError, NotFoundError, ProblemError
from api.http.routing import V1Route
from api.uploads.schemas import UploadCreate
from api.uploads.serializers import serialize_upload
from kdcore.schema.validation.errors import ValidationIssue
from store import object_store
from store.access.credentials import Principal
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Dataset, Model, Upload, UploadPart

_MAX_LISTED_PARTS = 20


def new_upload(body: UploadCreate, caller: Principal) -> Upload:
    """The row of an open upload."""
    return Upload(
        id=new_id("upl"),
        project_id=caller.project_id,
        filename=body.filename,
        size_bytes=body.size_bytes,
        part_bytes=settings().upload_part_bytes,
        sha256=body.sha256,
        state="open",
        expires_at=func.now() + timedelta(seconds=settings().upload_expiry_s),
    )


def expected_part_size(upload_id: str, number: int, caller: Principal) -> int:
    """Size in bytes of a part that the upload still accepts.

    Raises:
        NotFoundError: there is no such upload or part.
        ConflictError: the upload is not open.
    """
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        _require_open(upload)
        if not 1 <= number <= upload.num_parts:
            raise NotFoundError("part of this upload")
        return upload.part_size(number)


async def read_sized_body(request: Request, size: int) -> AsyncIterator[bytes]:
    """Yield the request's body, which must have exactly ``size`` bytes.

    Raises:
        ProblemError: 422 for another size. The object store then stores nothing.
    """
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > size:
            break
        if chunk:
            yield chunk
    if received != size:
        actual = f"more than {size}" if received > size else str(received)
        detail = f"this part has {size} bytes, but the request has {actual}"
        raise ProblemError(422, "wrong_part_size", detail)


def record_part(upload_id: str, number: int, caller: Principal, key: str) -> None:
    """Store that the bytes of a part are the object ``key``."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        _require_open(upload)
        size = upload.part_size(number)
        existing = session.get(UploadPart, (upload_id, number))
        if existing is None:
            upload.parts.append(UploadPart(number=number, size_bytes=size, object_key=key))
        else:
            existing.object_key = key


def complete_upload(upload_id: str, caller: Principal) -> dict[str, Any]:
    """Verify an upload, mark it as complete, and return the body of its ``UploadOut``.

    Raises:
        NotFoundError: the project has no such upload.
        InvalidRequestError: parts are missing, or the digest differs.
        ConflictError: the upload is discarded, or a part was sent during the verification.
    """
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        if upload.state == "complete":
            return serialize_upload(upload)
        _require_open(upload)
        keys = _part_keys(upload)
    # Outside of a transaction, because a large upload takes long to read.
    _verify_parts(upload, keys)
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        _require_open(upload)
        if _part_keys(upload) != keys:
            detail = "a part was sent during the verification; complete the upload again"
            raise ConflictError("upload_changed", detail)
        upload.state = "complete"
        return serialize_upload(upload)


def _part_keys(upload: Upload) -> dict[int, str]:
    """Object key by number of each part that has arrived."""
    return {part.number: part.object_key for part in upload.parts}


def _verify_parts(upload: Upload, keys: Mapping[int, str]) -> None:
    """Read all parts in order and compare their SHA-256 with the announced one."""
    missing = set(range(1, upload.num_parts + 1)) - set(keys)
    if missing:
        numbers = ", ".join(str(number) for number in sorted(missing)[:_MAX_LISTED_PARTS])
        raise InvalidRequestError.of("", "parts_missing", f"send the missing parts: {numbers}")
    digest = hashlib.sha256()
    for _, key in sorted(keys.items()):
        for chunk in object_store.read(key):
            digest.update(chunk)
    if digest.hexdigest() != upload.sha256:
        detail = f"the received bytes have the SHA-256 {digest.hexdigest()}; send the parts again"
        raise InvalidRequestError.of("/sha256", "sha256_mismatch", detail)


def _require_open(upload: Upload) -> None:
    if upload.state != "open":
        detail = f"the upload is {upload.state} and accepts no more bytes"
        raise ConflictError("illegal_transition", detail, current_state=upload.state)


def require_unused(session: Session, upload: Upload) -> None:
    """Raise a ``ConflictError`` if a data set or model was created from the upload."""
    queries = (select(table.id).where(table.upload_id == upload.id) for table in (Dataset, Model))
    if any(session.scalar(query.limit(1)) is not None for query in queries):
        detail = "a data set or model was created from the upload; delete it first"
        raise ConflictError("in_use", detail, current_state=upload.state)


def require_complete_upload(session: Session, upload_id: str | None, caller: Principal) -> None:
    """Raise an ``InvalidRequestError`` unless the upload is complete or ``upload_id`` is None."""
    if upload_id is None:
        return
    upload = scoping.get_or_none(session, Upload, upload_id, caller, lock="share")
    if upload is None:
        code, detail = "not_found", "the project has no such upload"
    elif upload.state == "open":
        code, detail = "not_complete", "the upload is not complete: POST to its /complete first"
    elif upload.state == "discarded":
        detail = (
            "the bytes of the upload were invalid or expired, and are deleted; upload them again"
        )
        code = "discarded"
    else:
        return
    raise InvalidRequestError.of("/upload_id", code, detail)


class UploadBodyRoute(V1Route):
    """A route whose body has an ``upload_id``: issues of that upload come with the other issues."""

    @override
    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        upload_id = body.get("upload_id") if isinstance(body, dict) else None
        try:
            require_complete_upload(
                session, upload_id if isinstance(upload_id, str) else None, caller
            )
        except InvalidRequestError as invalid:
            return invalid.issues
        return []
