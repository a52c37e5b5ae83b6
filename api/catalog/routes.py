"""What can be asked for: methods, schemes, architectures."""

import functools
import inspect
import zlib
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http.auth import JobReader
from api.http.pagination import Page, PageQueryDep, paginate_list
from api.http.problems import NotFoundError
from api.http.responses import dump_json, etag_response
from api.http.router import v1_router
from kdcore.schema.catalog import Architecture, ArchitectureName, architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.method_compatibility import (
    Incompatibility,
    TeacherStudentPair,
    find_incompatibility,
)

methods_router = v1_router("/methods", "catalog")
schemes_router = v1_router("/schemes", "catalog")
architectures_router = v1_router("/architectures", "catalog")


class MethodOut(BaseModel):
    """What is distilled."""

    name: str
    object: Literal["method"]
    doc: str = Field(description="When to choose it, and its formula")
    group: str
    needs: list[str] = Field(description="What of the networks and the data it needs")
    default_label_weight: float
    paper: str | None
    when_to_use: str = Field(description="When to choose it")
    formula: str = Field(description="Its loss before it is weighted; s student, t teacher")
    min_batch: int = Field(description="Fewest images of a batch that it works on")
    one_teacher: bool = Field(description="Whether it refuses more than one teacher")
    min_maps: int = Field(description="Fewest pairs of feature maps")
    params: dict[str, Any] = Field(description="JSON Schema of its fields")
    compatible: bool | None = Field(
        description="Whether it can be used for the pair that was asked for"
    )
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
            "compatible": None,
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
    ordered = sorted(architectures().items(), key=lambda item: (item[0].partition("/")[0], item[0]))
    return {name: {"object": "architecture", **entry.model_dump()} for name, entry in ordered}


@methods_router.get("", response_model=MethodPage)
def list_methods(
    _: JobReader,
    page_query: PageQueryDep,
    student: Annotated[ArchitectureName | None, Query(description="An architecture")] = None,
    teacher: Annotated[
        list[ArchitectureName] | None, Query(max_length=8, description="Several make an ensemble")
    ] = None,
) -> Response:
    """All methods, by name; of a pair of networks also which fit, and why the others do not."""
    entries = list(_methods().values())
    if student or teacher:
        # Who asks for one network alone asks what this network forbids.
        pair = TeacherStudentPair(student, tuple(teacher or ()), teacher_required=False)
        entries = [
            entry | _compatibility(find_incompatibility(entry["name"], pair)) for entry in entries
        ]
    return paginate_list(entries, page_query)


def _compatibility(incompatibility: Incompatibility | None) -> dict[str, Any]:
    if incompatibility is None:
        return {"compatible": True}
    return {"compatible": False, "reason": incompatibility.reason, "help": incompatibility.help}


@methods_router.get("/{name}", response_model=MethodOut)
def get_method(name: str, request: Request, _: JobReader) -> Response:
    """One method: what it needs, its paper, and the JSON Schema of its fields."""
    return _entry_response(_methods(), name, "method", request)


@schemes_router.get("", response_model=SchemePage)
def list_schemes(_: JobReader, page_query: PageQueryDep) -> Response:
    """All schemes, by name."""
    return paginate_list(list(_schemes().values()), page_query)


@schemes_router.get("/{name}", response_model=SchemeOut)
def get_scheme(name: str, request: Request, _: JobReader) -> Response:
    """One scheme and the JSON Schema of its fields."""
    return _entry_response(_schemes(), name, "scheme", request)


@architectures_router.get("", response_model=ArchitecturePage)
def list_architectures(_: JobReader, page_query: PageQueryDep) -> Response:
    """All architectures: CIFAR networks first, by name."""
    return paginate_list(list(_architectures().values()), page_query)


@architectures_router.get("/{name:path}", response_model=ArchitectureOut)
def get_architecture(name: str, request: Request, _: JobReader) -> Response:
    """One architecture; its name may hold a slash."""
    return _entry_response(_architectures(), name, "architecture", request)


def _entry_response(
    entries: dict[str, dict[str, Any]], name: str, noun: str, request: Request
) -> Response:
    if name not in entries:
        raise NotFoundError(noun)
    tag = f"{zlib.crc32(dump_json(entries[name])):08x}"
    return etag_response(request, entries[name], tag)
