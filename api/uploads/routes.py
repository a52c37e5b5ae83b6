"""Uploads: a client sends a file in parts and completes it; its SHA-256 is verified."""

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from api.http import scoping
from api.http.auth import DataWriter
from api.http.etag import etag_response
from api.http.idempotency import create_row, idempotent_post
from api.http.problems import ProblemError
from api.http.responses import json_response
from api.http.routing import v1_router
from api.uploads import service
from api.uploads.schemas import UploadCreate, UploadOut, UploadPartOut
from api.uploads.serializers import serialize_part, serialize_upload
from store import object_store
from store.database import transaction
from store.ids import new_id
from store.settings import settings
from store.tables import Upload

router = v1_router("/uploads", "uploads")


@idempotent_post(router, response_model=UploadOut)
def create_upload(body: UploadCreate, request: Request, caller: DataWriter) -> Response:
    """Start an upload. Then PUT each part to its `url`, and complete the upload."""
    limit = settings().max_upload_bytes
    if body.size_bytes > limit:
        detail = f"an upload may have at most {limit} bytes"
        raise ProblemError(413, "upload_too_large", detail)
    return create_row(request, caller, service.new_upload(body, caller), serialize_upload)


@router.get("/{upload_id}", response_model=UploadOut)
def get_upload(upload_id: str, request: Request, caller: DataWriter) -> Response:
    """Get an upload and which of its parts have arrived."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller)
        received = ".".join(f"{part.number}" for part in upload.parts)
        return etag_response(request, serialize_upload(upload), f"{upload.state}-{received}")


@router.put(
    "/{upload_id}/parts/{number}",
    response_model=UploadPartOut,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def put_upload_part(
    upload_id: str, number: int, request: Request, caller: DataWriter
) -> Response:
    """Send the bytes of a part. They replace those sent before, until the upload is complete."""
    size = await anyio.to_thread.run_sync(service.expected_part_size, upload_id, number, caller)
    key = f"{caller.project_id}/uploads/{upload_id}/{new_id('upl')}"
    await object_store.put_stream(key, service.read_sized_body(request, size))
    await anyio.to_thread.run_sync(service.record_part, upload_id, number, caller, key)
    return json_response(serialize_part(upload_id, number, size, received=True))


@router.post("/{upload_id}/complete", response_model=UploadOut)
def complete_upload(upload_id: str, caller: DataWriter) -> Response:
    """Verify size and SHA-256 of the file. After a mismatch, a 422, the upload stays open."""
    return json_response(service.complete_upload(upload_id, caller))


@router.delete("/{upload_id}", status_code=204, response_class=Response)
def delete_upload(upload_id: str, caller: DataWriter) -> Response:
    """Delete an upload and its bytes, unless a data set or model was created from it."""
    with transaction() as session:
        upload = scoping.get_or_404(session, Upload, upload_id, caller, lock=True)
        service.require_unused(session, upload)
        keys = [part.object_key for part in upload.parts]
        session.delete(upload)
    for key in keys:
        object_store.delete(key)
    return Response(status_code=204)
