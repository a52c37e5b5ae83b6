"""Uploads, data sets, teacher caches, models."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.tables.base import Base, BigInt, CreatedAt, Id, Json, ProjectId, Timestamp


class Upload(Base):
    """An upload: its parts are separate objects."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("state IN ('open', 'complete', 'discarded')", "state"),)
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    filename: Mapped[str]
    size_bytes: Mapped[BigInt]
    part_bytes: Mapped[BigInt]
    sha256: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Timestamp]
    parts: Mapped[list["UploadPart"]] = relationship(
        order_by="UploadPart.number", lazy="selectin", cascade="all, delete-orphan"
    )

    @property
    def num_parts(self) -> int:
        """Parts of the upload; they are numbered from 1."""
        return -(-self.size_bytes // self.part_bytes)

    def part_size(self, number: int) -> int:
        """Size in bytes of part ``number``; only the last part is smaller than the others."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)


class UploadPart(Base):
    """A received part of an upload."""

    __tablename__ = "upload_parts"
    upload_id: Mapped[str] = mapped_column(
        ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[BigInt]
    object_key: Mapped[str]


class Dataset(Base):
    """A data set: immutable once it is ready."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("state IN ('ingesting', 'ready', 'failed')", "state"),
        Index(None, "project_id", "created_at", "id"),
    )
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    source: Mapped[str]
    upload_id: Mapped[str | None] = mapped_column(ForeignKey("uploads.id"))
    split_seed: Mapped[BigInt]
    on_bad_image: Mapped[str]
    on_duplicates: Mapped[str]
    state: Mapped[str]
    error: Mapped[Json | None]
    info: Mapped[Json | None]
    ingest_summary: Mapped[Json | None]
    """What ingestion read of the upload; null until it has ended, and for older rows."""
    object_key: Mapped[str | None] = mapped_column(index=True)
    sha256: Mapped[str | None]
    size_bytes: Mapped[BigInt | None]
    rev: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[CreatedAt]
    ready_at: Mapped[datetime | None]


class TeacherCache(Base):
    """Outputs of a teacher for one view of a data set's training images."""

    __tablename__ = "teacher_caches"
    __table_args__ = (
        UniqueConstraint("project_id", "key"),
        Index(None, "project_id", "created_at", "id"),
        Index(None, "project_id", "dataset_sha256", "teacher_sha256"),
    )
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    key: Mapped[str]
    """Digest of everything that determines the outputs; the engine computes it."""
    model_id: Mapped[str]
    """Teacher and data set of the job; both may have been deleted since."""
    dataset_id: Mapped[str]
    teacher_sha256: Mapped[str]
    dataset_sha256: Mapped[str]
    seed: Mapped[BigInt]
    augmentation: Mapped[Any] = mapped_column(JSONB)
    view: Mapped[int]
    num_samples: Mapped[BigInt]
    object_key: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str]
    size_bytes: Mapped[BigInt]
    fill_s: Mapped[float]
    """Seconds that computing the outputs took."""
    job_id: Mapped[str]
    """The job whose run computed the outputs."""
    hits: Mapped[int] = mapped_column(default=0)
    """Runs of other jobs that used the row."""
    created_at: Mapped[CreatedAt]
    used_at: Mapped[CreatedAt]


class Model(Base):
    """A network's weights, a teacher's or a student's."""

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("state IN ('verifying', 'ready', 'failed')", "state"),
        Index(None, "project_id", "created_at", "id"),
    )
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    source: Mapped[str]
    upload_id: Mapped[str | None] = mapped_column(ForeignKey("uploads.id"))
    architecture: Mapped[str | None]
    """Set in each model that is ready, like the next fields; null while an upload is inferred."""
    num_classes: Mapped[int | None]
    in_channels: Mapped[int | None]
    input_size: Mapped[int | None]
    normalization: Mapped[Json | None]
    sixteen_bit_range: Mapped[int | None]
    """Number of values of the training images with 16 bits; null without such images."""
    normalization_declared: Mapped[bool] = mapped_column(default=True)
    """Whether it came with the weights, and is not the architecture's default."""
    input_size_declared: Mapped[bool] = mapped_column(default=True)
    """Likewise."""
    class_names: Mapped[list[Any] | None]
    reported_top1: Mapped[float | None]
    """Accuracy in percent that the report or the upload of the weights states."""
    license: Mapped[str | None]
    labels: Mapped[Json]
    warnings: Mapped[list[Any]]
    state: Mapped[str]
    error: Mapped[Json | None]
    num_params: Mapped[BigInt | None]
    """Null for ONNX, which does not say which tensors are parameters."""
    outputs: Mapped[Json | None]
    """Of a network from a file: shapes for one image of its outputs beside the logits, by name."""
    object_key: Mapped[str | None] = mapped_column(index=True)
    sha256: Mapped[str | None]
    size_bytes: Mapped[BigInt | None]
    onnx_object_key: Mapped[str | None] = mapped_column(index=True)
    """The network as ONNX, from its first prediction on."""
    onnx_sha256: Mapped[str | None]
    onnx_size_bytes: Mapped[BigInt | None]
    onnx_error: Mapped[Json | None]
    """Why the network has no ONNX form."""
    rev: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[CreatedAt]
    ready_at: Mapped[datetime | None]
