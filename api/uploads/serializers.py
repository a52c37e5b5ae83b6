"""JSON of an upload and its parts."""

from typing import Any

from store.tables import Upload


def serialize_upload(upload: Upload) -> dict[str, Any]:
    """The body of an ``UploadOut``."""
    received = {part.number for part in upload.parts}
    return {
        "id": upload.id,
        "object": "upload",
        "filename": upload.filename,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "state": upload.state,
        "parts": [
            serialize_part(upload.id, number, upload.part_size(number), number in received)
            for number in range(1, upload.num_parts + 1)
        ],
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
    }


def serialize_part(upload_id: str, number: int, size_bytes: int, received: bool) -> dict[str, Any]:
    """The body of an ``UploadPartOut``."""
    url = f"/v1/uploads/{upload_id}/parts/{number}"
    return {"number": number, "url": url, "size_bytes": size_bytes, "received": received}
