"""Uploads: bytes come in parts, each an object of its own, and are verified as a whole."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter
from api.http.idempotency import IDEMPOTENCY_DEPENDENCIES, CreatedResource, run_idempotent
from api.http.problems import ConflictError, InvalidRequestError, NotFoundError, ProblemError
from api.http.responses import etag_response, json_response
from api.http.router import v1_router
from kdcore.schema.base import FrozenModel, Name, Sha256
from kdcore.schema.validation.errors import ValidationIssue
from store import object_store
from store.access.credentials import Principal
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Dataset, Model, Upload, UploadPart

uploads_router = v1_router("/uploads", "uploads")


class UploadCreate(FrozenModel):
    """What will be sent."""

    filename: Name
    """For people; it is never used as a path."""
    size_bytes: int = Field(ge=1, le=64 * 2**40)
    sha256: Sha256
    """Of the whole, in hexadecimal."""


class UploadPartOut(BaseModel):
    """One part and where to PUT its bytes."""

    number: int
    url: str
    size_bytes: int
    received: bool


class UploadOut(BaseModel):
    """An upload and its parts."""

    id: str
    object: Literal["upload"]
    filename: str
    size_bytes: int
    sha256: str
    state: Literal["open", "complete", "discarded"]
    parts: list[UploadPartOut]
    created_at: str
    expires_at: str


def serialize_upload(upload: Upload) -> dict[str, Any]:
    """An upload as answers carry it."""
    received = {part.number for part in upload.parts}
    return {
        "id": upload.id,
        "object": "upload",
        "filename": upload.filename,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "state": upload.state,
        "parts": [
            {
                "number": number,
                "url": f"/v1/uploads/{upload.id}/parts/{number}",
                "size_bytes": _part_size(upload, number),
                "received": number in received,
            }
            for number in range(1, _num_parts(upload) + 1)
        ],
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
    }


def _num_parts(upload: Upload) -> int:
    return -(-upload.size_bytes // upload.part_bytes)


def _part_size(upload: Upload, number: int) -> int:
    return min(upload.part_bytes, upload.size_bytes - (number - 1) * upload.part_bytes)


@uploads_router.post(
    "", status_code=201, dependencies=IDEMPOTENCY_DEPENDENCIES, response_model=UploadOut
)
def create_upload(body: UploadCreate, request: Request, caller: DataWriter) -> Response:
    """Begin an upload. Then PUT each part to its address, and complete it."""
    limit = settings().max_upload_bytes
    if body.size_bytes > limit:
        detail = f"an upload may have {limit} bytes"
        raise ProblemError(413, "upload_too_large", detail)
    with transaction() as session:
        return run_idempotent(
            session, request, caller.project_id, lambda: _create(session, body, caller)
        )


def _create(session: Session, body: UploadCreate, caller: Principal) -> CreatedResource:
    upload = Upload(
        id=new_id("upl"),
        project_id=caller.project_id,
        filename=body.filename,
        size_bytes=body.size_bytes,
        part_bytes=settings().upload_part_bytes,
        sha256=body.sha256,
        state="open",
        expires_at=func.now() + timedelta(seconds=settings().upload_expiry_s),
    )
    session.add(upload)
    session.flush()
    session.refresh(upload)
    return CreatedResource(serialize_upload(upload), f"/v1/uploads/{upload.id}")


@uploads_router.get("/{upload_id}", response_model=UploadOut)
def get_upload(upload_id: str, request: Request, caller: DataWriter) -> Response:
    """An upload: which parts have arrived."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        received = ".".join(f"{part.number}" for part in upload.parts)
        return etag_response(request, serialize_upload(upload), f"{upload.state}-{received}")


@uploads_router.put(
    "/{upload_id}/parts/{number}",
    response_model=UploadPartOut,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def put_part(upload_id: str, number: int, request: Request, caller: DataWriter) -> Response:
    """Send one part's bytes as they are. Sending it again replaces it, until it is complete."""
    size = await anyio.to_thread.run_sync(_expected_size, upload_id, number, caller)
    key = f"{caller.project_id}/uploads/{upload_id}/{new_id('upl')}"
    await object_store.put_stream(key, _sized_body(request, size))
    await anyio.to_thread.run_sync(_record_part, upload_id, number, caller, key)
    url = f"/v1/uploads/{upload_id}/parts/{number}"
    return json_response({"number": number, "url": url, "size_bytes": size, "received": True})


def _expected_size(upload_id: str, number: int, caller: Principal) -> int:
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        _require_open(upload)
        if not 1 <= number <= _num_parts(upload):
            raise NotFoundError("part of this upload")
        return _part_size(upload, number)


async def _sized_body(request: Request, size: int) -> AsyncIterator[bytes]:
    """The request's body, which must have this size: a break leaves nothing in the store."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > size:
            break
        if chunk:
            yield chunk
    if received != size:
        what = f"more than {size}" if received > size else str(received)
        detail = f"this part has {size} bytes, and {what} were sent"
        raise ProblemError(422, "wrong_part_size", detail)


def _record_part(upload_id: str, number: int, caller: Principal, key: str) -> None:
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        _require_open(upload)
        size = _part_size(upload, number)
        existing = session.get(UploadPart, (upload_id, number))
        if existing is None:
            upload.parts.append(UploadPart(number=number, size_bytes=size, object_key=key))
        else:
            existing.object_key = key


@uploads_router.post("/{upload_id}/complete", response_model=UploadOut)
def complete_upload(upload_id: str, caller: DataWriter) -> Response:
    """Verify size and SHA-256 of the whole. A mismatch is a 422, and the upload stays open."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        if upload.state == "complete":
            return json_response(serialize_upload(upload))
        _require_open(upload)
        parts = [(part.number, part.object_key) for part in upload.parts]
        missing = set(range(1, _num_parts(upload) + 1)) - {number for number, _ in parts}
    if missing:
        first = ", ".join(str(number) for number in sorted(missing)[:20])
        raise _invalid_upload("", "parts_missing", f"these parts have not arrived: {first}")
    digest = hashlib.sha256()
    for _, key in parts:  # outside any transaction: a large upload takes its time
        for chunk in object_store.read(key):
            digest.update(chunk)
    if digest.hexdigest() != upload.sha256:
        detail = f"the bytes that arrived have SHA-256 {digest.hexdigest()}; send the parts again"
        raise _invalid_upload("/sha256", "sha256_mismatch", detail)
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        _require_open(upload)
        if [(part.number, part.object_key) for part in upload.parts] != parts:
            raise ConflictError(
                "upload_changed", "a part was sent again meanwhile; complete it again"
            )
        upload.state = "complete"
        return json_response(serialize_upload(upload))


@uploads_router.delete("/{upload_id}", status_code=204, response_class=Response)
def delete_upload(upload_id: str, caller: DataWriter) -> Response:
    """Give an upload up; its bytes are deleted. One that a data set or model came from stays."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        if _in_use(session, upload):
            detail = "a data set or model came from it; delete that first"
            raise ConflictError("in_use", detail, current_state=upload.state)
        keys = [part.object_key for part in upload.parts]
        session.delete(upload)
    for key in keys:
        object_store.delete(key)
    return Response(status_code=204)


def _in_use(session: Session, upload: Upload) -> bool:
    users = (select(table.id).where(table.upload_id == upload.id) for table in (Dataset, Model))
    return any(session.scalar(query.limit(1)) is not None for query in users)


def _require_open(upload: Upload) -> None:
    if upload.state != "open":
        detail = f"this upload is {upload.state} and takes no more bytes"
        raise ConflictError("illegal_transition", detail, current_state=upload.state)


def _invalid_upload(pointer: str, code: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError([ValidationIssue(pointer=pointer, code=code, detail=detail)])
