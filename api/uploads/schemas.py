"""Request and response bodies of uploads."""

from typing import Literal

from pydantic import BaseModel, Field

from kdcore.schema.base import AnySha256, FrozenModel, Name


class UploadCreate(FrozenModel):
    """A new upload: the size and digest of the file to send."""

    filename: Name
    """For display only; never used as a path."""
    size_bytes: int = Field(ge=1, le=64 * 2**40)
    sha256: AnySha256
    """SHA-256 of the complete file, in hexadecimal."""


class UploadPartOut(BaseModel):
    """A part of the file, and the address to PUT its bytes to."""

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
