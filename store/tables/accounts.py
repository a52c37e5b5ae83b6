"""Projects, API keys, dashboard logins."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, CreatedAt, Id, ProjectId, Timestamp


class Project(Base):
    """The owner of all other rows; a project cannot see the rows of another."""

    __tablename__ = "projects"
    id: Mapped[Id]
    name: Mapped[str]
    created_at: Mapped[CreatedAt]


class ApiKey(Base):
    """A key. Only its SHA-256 is stored: it has 256 random bits, so nothing slower is needed."""

    __tablename__ = "api_keys"
    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]


class LoginCode(Base):
    """A one-time address for the dashboard; deleted by its use."""

    __tablename__ = "login_codes"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[Timestamp]


class DashboardSession(Base):
    """A login of the dashboard; its cookie's SHA-256."""

    __tablename__ = "dashboard_sessions"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Timestamp]
