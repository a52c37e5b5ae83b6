"""Projects, keys and dashboard logins. Secrets are stored as SHA-256 only."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from store.ids import new_id
from store.settings import settings
from store.tables import ApiKey, DashboardSession, LoginCode, Project

SCOPES = ("jobs:read", "jobs:write", "data:write", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: a key of a project, and its scopes."""

    project_id: str
    key_id: str
    scopes: frozenset[str]


def digest(secret: str) -> bytes:
    """The digest that is stored instead of a secret of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def create_project(session: Session, name: str) -> Project:
    """A new, empty project."""
    project = Project(id=new_id("prj"), name=name)
    session.add(project)
    session.flush()
    return project


def create_key(session: Session, project_id: str, name: str, scopes: tuple[str, ...]) -> str:
    """Store a new key of the project. Returns its secret, which is stored nowhere."""
    secret = f"stk_{secrets.token_urlsafe(32)}"
    session.add(
        ApiKey(
            id=new_id("key"),
            project_id=project_id,
            name=name,
            digest=digest(secret),
            scopes=list(scopes),
        )
    )
    session.flush()
    return secret


def authenticate_key(session: Session, secret: str) -> Principal | None:
    """The caller with this key. Returns None for an unknown or revoked key."""
    return _principal(session, select(ApiKey).where(ApiKey.digest == digest(secret)))


def authenticate_cookie(session: Session, cookie: str) -> Principal | None:
    """The caller with this dashboard session. Returns None for an unknown or expired one."""
    query = (
        select(ApiKey)
        .join(DashboardSession, DashboardSession.key_id == ApiKey.id)
        .where(DashboardSession.digest == digest(cookie), DashboardSession.expires_at > func.now())
    )
    return _principal(session, query)


def _principal(session: Session, query: Select[ApiKey]) -> Principal | None:
    key = session.scalars(query.where(ApiKey.revoked_at.is_(None))).one_or_none()
    if key is None:
        return None
    return Principal(key.project_id, key.id, frozenset(key.scopes))


def create_login_code(session: Session, key_id: str) -> str:
    """Store a code that opens the dashboard once. Returns the code."""
    code = secrets.token_urlsafe(32)
    expires = func.now() + timedelta(seconds=settings().login_code_s)
    session.add(LoginCode(digest=digest(code), key_id=key_id, expires_at=expires))
    session.flush()
    return code


def use_login_code(session: Session, code: str) -> str | None:
    """Delete a code and return its key id. Returns None if it is unknown or expired."""
    return session.scalar(
        delete(LoginCode)
        .where(LoginCode.digest == digest(code), LoginCode.expires_at > func.now())
        .returning(LoginCode.key_id)
    )


def create_dashboard_session(session: Session, key_id: str) -> str:
    """Start a dashboard session for a key. Returns the value of its cookie."""
    cookie = secrets.token_urlsafe(32)
    expires = func.now() + timedelta(seconds=settings().session_s)
    session.add(DashboardSession(digest=digest(cookie), key_id=key_id, expires_at=expires))
    session.flush()
    return cookie


def delete_dashboard_session(session: Session, cookie: str) -> None:
    """End a dashboard session."""
    session.execute(delete(DashboardSession).where(DashboardSession.digest == digest(cookie)))
