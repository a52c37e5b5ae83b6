"""Outbox, turns of projects, workers, idempotency keys."""

from datetime import datetime

from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, BigInt, CreatedAt, Json, ProjectId


class OutboxMessage(Base):
    """A message to the workers of a queue, sent after the commit."""

    __tablename__ = "outbox"
    id: Mapped[BigInt] = mapped_column(Identity(), primary_key=True)
    queue: Mapped[str]
    created_at: Mapped[CreatedAt]


class ProjectTurn(Base):
    """When a project last had its turn in a queue; the longest ago is next."""

    __tablename__ = "project_turns"
    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    last_claimed_at: Mapped[datetime]


class Worker(Base):
    """A worker and its last heartbeat."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[datetime]
    missing_disk_bytes: Mapped[BigInt] = mapped_column(default=0, server_default="0")
    """Bytes that must be freed on its disk before it starts a job; 0 if it has enough space."""


class IdempotencyKey(Base):
    """The stored response to a request, for its repetitions."""

    __tablename__ = "idempotency_keys"
    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    """SHA-256 of method, path and body."""
    status: Mapped[int]
    headers: Mapped[Json]
    body: Mapped[str]
    created_at: Mapped[CreatedAt]
