"""The operations of the API: method and path of every route under /v1."""

import re
from collections.abc import Mapping

from fastapi.routing import iter_route_contexts

from api.app import create_app
from store.ids import new_id

_PATH_VALUES = {
    "job_id": new_id("job"),
    "dataset_id": new_id("ds"),
    "model_id": new_id("mdl"),
    "upload_id": new_id("upl"),
    "artifact_id": new_id("art"),
    "project_id": new_id("prj"),
    "key_id": new_id("key"),
    "checkpoint_id": new_id("ckp"),
    "cache_id": new_id("tch"),
    "number": "1",
    "name": "kd",
}


def operations() -> list[tuple[str, str]]:
    """Method and path pattern of every operation, including those of included routers."""
    routes = set()
    for context in iter_route_contexts(create_app().routes):
        path = getattr(context, "path", None) or getattr(context.route, "path", "")
        for method in getattr(context, "methods", None) or ():
            if path.startswith("/v1"):
                routes.add((method, path))
    return sorted(routes)


def fill_path(path: str, values: Mapping[str, str] | None = None) -> str:
    """The pattern with ``values``, by default an unknown id or the name of an entry."""
    known_values = {**_PATH_VALUES, **(values or {})}
    return re.sub(r"{(\w+)(:path)?}", lambda match: known_values[match[1]], path)
