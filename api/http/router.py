"""What all routers under /v1 share: authentication, and the problems that any route may answer."""

from typing import Any

from fastapi import APIRouter, Depends

from api.http.auth import bearer
from api.http.problems import MEDIA_TYPE, ProblemDocument
from api.http.routing import V1Route

_SCHEMA = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
PROBLEM_CONTENT: dict[str, Any] = {"content": {MEDIA_TYPE: _SCHEMA}}
# FastAPI makes the component of the one that names the model; the others refer to it.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be read", **PROBLEM_CONTENT},
    401: {"description": "No valid key", **PROBLEM_CONTENT},
    403: {"description": "The key lacks the scope", **PROBLEM_CONTENT},
    404: {"description": "There is no such thing in this project", **PROBLEM_CONTENT},
    409: {
        "description": "The state of things forbids it: `current_state` tells",
        **PROBLEM_CONTENT,
    },
    422: {"description": "The request has faults; all are listed", **PROBLEM_CONTENT},
    503: {
        "description": "Database or object store away, or too busy; try again",
        **PROBLEM_CONTENT,
    },
    "default": {"description": "Any other problem", "model": ProblemDocument},
}


def v1_router(prefix: str, tag: str) -> APIRouter:
    """A router of one resource under /v1."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=V1Route,
        dependencies=[Depends(bearer)],
        responses=PROBLEM_RESPONSES,
    )
