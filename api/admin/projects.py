"""Projects: what belongs to one cannot be seen from another."""

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel
from sqlalchemy import select
from starlette.responses import Response

from api.http.auth import Admin
from api.http.idempotency import KEYED, Created, once
from api.http.pagination import Page, PageAsked, page
from api.http.problems import NotFound
from api.http.responses import tagged
from api.http.router import router
from kdcore.schema.base import Name, Spec
from store.access import credentials
from store.database import transaction
from store.ids import is_id
from store.tables import Project

projects = router("/projects", "projects")


class ProjectCreate(Spec):
    """A new project."""

    name: Name


class ProjectOut(BaseModel):
    """A project. ``api_key`` is there only in the answer that creates it."""

    id: str
    object: Literal["project"]
    name: str
    created_at: str
    api_key: str | None = None


class ProjectPage(Page):
    """Projects, the newest first."""

    data: list[ProjectOut]


def show(project: Project) -> dict[str, Any]:
    """A project as answers carry it."""
    return {
        "id": project.id,
        "object": "project",
        "name": project.name,
        "created_at": project.created_at,
    }


@projects.post("", status_code=201, dependencies=KEYED, response_model=ProjectOut)
def create_project(body: ProjectCreate, request: Request, caller: Admin) -> Response:
    """Create a project with a key of its own, which is shown this once."""
    with transaction() as session:

        def create() -> Created:
            project = credentials.create_project(session, body.name)
            scopes = tuple(scope for scope in credentials.SCOPES if scope != "admin")
            key = credentials.create_key(session, project.id, "first key", scopes)
            session.refresh(project)
            return Created(show(project) | {"api_key": key}, f"/v1/projects/{project.id}")

        return once(session, request, caller.project_id, create)


@projects.get("/{project_id}", response_model=ProjectOut)
def get_project(project_id: str, request: Request, _: Admin) -> Response:
    """One project."""
    with transaction() as session:
        project = session.get(Project, project_id) if is_id(project_id, "prj") else None
        if project is None:
            raise NotFound("project")
        return tagged(request, show(project), project.id)


@projects.get("", response_model=ProjectPage)
def list_projects(_: Admin, asked: PageAsked) -> Response:
    """All projects, the newest first."""
    with transaction() as session:
        return page(session, select(Project), show, asked)
