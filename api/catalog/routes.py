"""What can be asked for: methods, schemes, architectures."""

import functools
import inspect
import zlib
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http.auth import Reader
from api.http.pagination import Page, PageAsked, page_of
from api.http.problems import NotFound
from api.http.responses import dumps, tagged
from api.http.router import router
from kdcore.schema.catalog import Architecture, ArchitectureName, architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.method_compatibility import Misfit, Pair, misfit

methods = router("/methods", "catalogue")
schemes = router("/schemes", "catalogue")
networks = router("/architectures", "catalogue")


class MethodOut(BaseModel):
    """What is distilled."""

    name: str
    object: Literal["method"]
    doc: str = Field(description="When to choose it, and its formula")
    group: str
    needs: list[str] = Field(description="What of the networks and the data it needs")
    default_label_weight: float
    paper: str | None
    when: str = Field(description="When to choose it")
    formula: str = Field(description="Its loss before it is weighted; s student, t teacher")
    min_batch: int = Field(description="Fewest images of a batch that it works on")
    one_teacher: bool = Field(description="Whether it refuses more than one teacher")
    min_maps: int = Field(description="Fewest pairs of feature maps")
    params: dict[str, Any] = Field(description="JSON Schema of its fields")
    fits: bool | None = Field(description="Whether it can be used for the pair that was asked for")
    reason: str | None = Field(description="What forbids it")
    help: str | None = Field(description="What would be right")


class SchemeOut(BaseModel):
    """How training is arranged."""

    name: str
    object: Literal["scheme"]
    doc: str
    paper: str | None
    teacher: Literal["required", "optional"] = Field(
        description="Whether a job must name a teacher for methods that look at one"
    )
    params: dict[str, Any] = Field(description="JSON Schema of its fields")


class ArchitectureOut(Architecture):
    """A network that can be trained or uploaded, measured at its reference input."""

    object: Literal["architecture"]


class MethodPage(Page):
    """Methods, by name."""

    data: list[MethodOut]


class SchemePage(Page):
    """Schemes, by name."""

    data: list[SchemeOut]


class ArchitecturePage(Page):
    """Architectures: CIFAR networks first, by name."""

    data: list[ArchitectureOut]


@functools.cache
def _methods() -> dict[str, dict[str, Any]]:
    return {
        name: {
            "name": name,
            "object": "method",
            "doc": inspect.getdoc(entry.params) or "",
            **entry.model_dump(exclude={"params"}),
            "params": entry.params.model_json_schema(),
            "fits": None,
            "reason": None,
            "help": None,
        }
        for name, entry in sorted(METHODS.items())
    }


@functools.cache
def _schemes() -> dict[str, dict[str, Any]]:
    return {
        name: {
            "name": name,
            "object": "scheme",
            "doc": inspect.getdoc(entry.params) or "",
            **entry.model_dump(exclude={"params"}),
            "params": entry.params.model_json_schema(),
        }
        for name, entry in sorted(SCHEMES.items())
    }


@functools.cache
def _architectures() -> dict[str, dict[str, Any]]:
    named = sorted(architectures().items(), key=lambda item: (item[0].partition("/")[0], item[0]))
    return {name: {"object": "architecture", **entry.model_dump()} for name, entry in named}


@methods.get("", response_model=MethodPage)
def list_methods(
    _: Reader,
    asked: PageAsked,
    student: Annotated[ArchitectureName | None, Query(description="An architecture")] = None,
    teacher: Annotated[
        list[ArchitectureName] | None, Query(max_length=8, description="Several make an ensemble")
    ] = None,
) -> Response:
    """All methods, by name; of a pair of networks also which fit, and why the others do not."""
    listed = list(_methods().values())
    if student or teacher:
        # Who asks for one network alone asks what this network forbids.
        pair = Pair(student, tuple(teacher or ()), teacher_required=False)
        listed = [entry | _fit(misfit(entry["name"], pair)) for entry in listed]
    return page_of(listed, asked)


def _fit(found: Misfit | None) -> dict[str, Any]:
    if found is None:
        return {"fits": True}
    return {"fits": False, "reason": found.reason, "help": found.help}


@methods.get("/{name}", response_model=MethodOut)
def get_method(name: str, request: Request, _: Reader) -> Response:
    """One method: what it needs, its paper, and the JSON Schema of its fields."""
    return _one(_methods(), name, "method", request)


@schemes.get("", response_model=SchemePage)
def list_schemes(_: Reader, asked: PageAsked) -> Response:
    """All schemes, by name."""
    return page_of(list(_schemes().values()), asked)


@schemes.get("/{name}", response_model=SchemeOut)
def get_scheme(name: str, request: Request, _: Reader) -> Response:
    """One scheme and the JSON Schema of its fields."""
    return _one(_schemes(), name, "scheme", request)


@networks.get("", response_model=ArchitecturePage)
def list_architectures(_: Reader, asked: PageAsked) -> Response:
    """All architectures: CIFAR networks first, by name."""
    return page_of(list(_architectures().values()), asked)


@networks.get("/{name:path}", response_model=ArchitectureOut)
def get_architecture(name: str, request: Request, _: Reader) -> Response:
    """One architecture; its name may hold a slash."""
    return _one(_architectures(), name, "architecture", request)


def _one(entries: dict[str, dict[str, Any]], name: str, what: str, request: Request) -> Response:
    if name not in entries:
        raise NotFound(what)
    tag = f"{zlib.crc32(dumps(entries[name])):08x}"
    return tagged(request, entries[name], tag)
