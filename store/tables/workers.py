"""What keeps the fleet going: messages to send, workers that live, keys of repeated requests."""

from datetime import datetime

from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, BigInt, CreatedAt, Json, ProjectId


class OutboxMessage(Base):
    """The outbox: a message to a queue, written with the row it is about, sent after the commit."""

    __tablename__ = "outbox"
    id: Mapped[BigInt] = mapped_column(Identity(), primary_key=True)
    queue: Mapped[str]
    created_at: Mapped[CreatedAt]


class ProjectTurn(Base):
    """When a project last had its turn in a queue: whose is longest ago has the next one."""

    __tablename__ = "project_turns"
    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    last_claimed_at: Mapped[datetime]


class Worker(Base):
    """A slot of a worker and when it was last heard of."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[datetime]


class IdempotencyKey(Base):
    """The answer to a request, kept so that its repetition gets the same one."""

    __tablename__ = "idempotency_keys"
    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    """SHA-256 of method, path and body."""
    status: Mapped[int]
    headers: Mapped[Json]
    body: Mapped[str]
    created_at: Mapped[CreatedAt]
