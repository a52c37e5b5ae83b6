"""Uploads: parts are objects of their own until the upload is verified as one file."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from fastapi import Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from typing_extensions import override

from api.http import scoping
from api.http.problems import ConflictError, InvalidRequestError, NotFoundError, ProblemError
from api.http.routing import V1Route
from api.uploads.schemas import UploadCreate
from kdcore.schema.validation.errors import ValidationIssue
from store import object_store
from store.access.credentials import Principal
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Dataset, Model, Upload, UploadPart

_MAX_LISTED_PARTS = 20


def num_parts(upload: Upload) -> int:
    """Parts of the upload; they are numbered from 1."""
    return -(-upload.size_bytes // upload.part_bytes)


def part_size(upload: Upload, number: int) -> int:
    """Size in bytes of part ``number``; only the last part is smaller than the others."""
    return min(upload.part_bytes, upload.size_bytes - (number - 1) * upload.part_bytes)


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
        require_open(upload)
        if not 1 <= number <= num_parts(upload):
            raise NotFoundError("part of this upload")
        return part_size(upload, number)


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
        require_open(upload)
        size = part_size(upload, number)
        existing = session.get(UploadPart, (upload_id, number))
        if existing is None:
            upload.parts.append(UploadPart(number=number, size_bytes=size, object_key=key))
        else:
            existing.object_key = key


def part_keys(upload: Upload) -> list[tuple[int, str]]:
    """Number and object key of each part that has arrived."""
    return [(part.number, part.object_key) for part in upload.parts]


def verify_parts(upload: Upload, keys: Sequence[tuple[int, str]]) -> None:
    """Read all parts and compare their SHA-256 with the announced one.

    Raises:
        InvalidRequestError: parts are missing, or the digest differs.
    """
    missing = set(range(1, num_parts(upload) + 1)) - {number for number, _ in keys}
    if missing:
        numbers = ", ".join(str(number) for number in sorted(missing)[:_MAX_LISTED_PARTS])
        raise InvalidRequestError.of("", "parts_missing", f"send the missing parts: {numbers}")
    digest = hashlib.sha256()
    for _, key in keys:
        for chunk in object_store.read(key):
            digest.update(chunk)
    if digest.hexdigest() != upload.sha256:
        detail = f"the received bytes have the SHA-256 {digest.hexdigest()}; send the parts again"
        raise InvalidRequestError.of("/sha256", "sha256_mismatch", detail)


def require_open(upload: Upload) -> None:
    """Raise a ``ConflictError`` unless the upload accepts bytes."""
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
        code, detail = "discarded", "the bytes of the upload were invalid and are deleted"
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
