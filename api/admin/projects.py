"""Projects. Resources of one project are invisible to API keys of another."""

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.auth import Admin
from api.http.etag import etag_response
from api.http.idempotency import CreatedResource, idempotent_post, run_idempotent
from api.http.pagination import Page, PageQueryDep, paginate
from api.http.problems import NotFoundError
from api.http.routing import v1_router
from kdcore.schema.base import FrozenModel, Name
from store.access import credentials
from store.database import transaction
from store.ids import is_id
from store.tables import Project

router = v1_router("/projects", "projects")


class ProjectCreate(FrozenModel):
    """A new project."""

    name: Name


class ProjectOut(BaseModel):
    """A project. Only the response that creates it contains ``api_key``."""

    id: str
    object: Literal["project"]
    name: str
    created_at: str
    api_key: str | None = None


class ProjectPage(Page[ProjectOut]):
    """Projects, the newest first."""


def serialize_project(project: Project) -> dict[str, Any]:
    """The body of a ``ProjectOut`` without the API key."""
    return {
        "id": project.id,
        "object": "project",
        "name": project.name,
        "created_at": project.created_at,
    }


@idempotent_post(router, response_model=ProjectOut)
def create_project(body: ProjectCreate, request: Request, caller: Admin) -> Response:
    """Create a project and its first API key. Only this response contains the key."""

    def create(session: Session) -> CreatedResource:
        project = credentials.create_project(session, body.name)
        scopes = tuple(scope for scope in credentials.SCOPES if scope != "admin")
        key = credentials.create_key(session, project.id, "first key", scopes)
        session.refresh(project)
        data = serialize_project(project) | {"api_key": key}
        return CreatedResource(data, f"/v1/projects/{project.id}")

    return run_idempotent(request, caller, create)


@router.get("/{project_id}", response_model=ProjectOut)
def get_project(project_id: str, request: Request, _: Admin) -> Response:
    """Get a project."""
    with transaction() as session:
        project = session.get(Project, project_id) if is_id(project_id, "prj") else None
        if project is None:
            raise NotFoundError("project")
        return etag_response(request, serialize_project(project), project.id)


@router.get("", response_model=ProjectPage)
def list_projects(_: Admin, page_query: PageQueryDep) -> Response:
    """List all projects, the newest first."""
    with transaction() as session:
        return paginate(session, select(Project), serialize_project, page_query)
