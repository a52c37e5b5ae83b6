"""What keeps the fleet going: messages to send, workers that live, keys of repeated requests."""

from datetime import datetime

from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, Big, Created, Json, ProjectId


class Poke(Base):
    """The outbox: a message to a lane, written with the row it is about, sent after the commit."""

    __tablename__ = "outbox"
    id: Mapped[Big] = mapped_column(Identity(), primary_key=True)
    lane: Mapped[str]
    created_at: Mapped[Created]


class Turn(Base):
    """When a project last had its turn in a lane: whose is longest ago has the next one."""

    __tablename__ = "turns"
    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    lane: Mapped[str] = mapped_column(primary_key=True)
    taken_at: Mapped[datetime]


class Worker(Base):
    """A slot of a worker and when it was last heard of."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[str]
    started_at: Mapped[Created]
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
    created_at: Mapped[Created]
