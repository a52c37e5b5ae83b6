"""What all routers under /v1 share: authentication, and the problems that any route may answer."""

from typing import Any

from fastapi import APIRouter, Depends

from api.http.auth import bearer
from api.http.problems import MEDIA_TYPE, ProblemDocument
from api.http.routing import V1Route

_SCHEMA = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
PROBLEM: dict[str, Any] = {"content": {MEDIA_TYPE: _SCHEMA}}
# FastAPI makes the component of the one that names the model; the others refer to it.
COMMON: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be read", **PROBLEM},
    401: {"description": "No valid key", **PROBLEM},
    403: {"description": "The key lacks the scope", **PROBLEM},
    404: {"description": "There is no such thing in this project", **PROBLEM},
    409: {"description": "The state of things forbids it: `current_state` tells", **PROBLEM},
    422: {"description": "The request has faults; all are listed", **PROBLEM},
    503: {"description": "Database or object store away, or too busy; try again", **PROBLEM},
    "default": {"description": "Any other problem", "model": ProblemDocument},
}


def router(prefix: str, tag: str) -> APIRouter:
    """A router of one resource under /v1."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=V1Route,
        dependencies=[Depends(bearer)],
        responses=COMMON,
    )
