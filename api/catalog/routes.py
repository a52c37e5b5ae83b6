"""The catalog: methods, schemes and architectures."""

import functools
import inspect
import zlib
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.http.auth import JobReader
from api.http.etag import etag_response
from api.http.pagination import Page, PageQueryDep, paginate_list
from api.http.problems import NotFoundError
from api.http.responses import dump_json
from api.http.routing import v1_router
from kdcore.schema.catalog import (
    Architecture,
    ArchitectureName,
    ModelArchitecture,
    architectures,
)
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.method_compatibility import (
    Incompatibility,
    TeacherStudentPair,
    find_incompatibility,
)

router = v1_router("", "catalog")


class MethodOut(BaseModel):
    """A distillation method: what the student learns from the teacher."""

    name: str
    object: Literal["method"]
    doc: str = Field(description="When to choose the method, and its formula")
    group: str
    needs: list[str] = Field(description="Requirements on the networks and the data")
    default_label_weight: float
    paper: str | None
    when_to_use: str = Field(description="When to choose the method")
    formula: str = Field(description="The loss before its weight; s is the student, t the teacher")
    min_batch: int = Field(description="Smallest batch size in images")
    one_teacher: bool = Field(description="Whether the method allows only one teacher")
    min_maps: int = Field(description="Smallest number of pairs of feature maps")
    params: dict[str, Any] = Field(description="JSON Schema of the parameters")
    compatible: bool | None = Field(
        description="Whether the method supports the pair of the query; null without a pair"
    )
    reason: str | None = Field(description="Why the method does not support the pair")
    help: str | None = Field(description="What would make the pair compatible")


class SchemeOut(BaseModel):
    """A training scheme: how teachers and students are arranged."""

    name: str
    object: Literal["scheme"]
    doc: str
    paper: str | None
    teacher: Literal["required", "optional"] = Field(
        description="Whether methods that need a teacher require one in the job"
    )
    params: dict[str, Any] = Field(description="JSON Schema of the parameters")


class ArchitectureOut(Architecture):
    """A network that can be trained or uploaded, measured at its reference input size."""

    object: Literal["architecture"]


class MethodPage(Page[MethodOut]):
    """Methods, sorted by name."""


class SchemePage(Page[SchemeOut]):
    """Schemes, sorted by name."""


class ArchitecturePage(Page[ArchitectureOut]):
    """Architectures, CIFAR networks first, each family sorted by name."""


_METHOD_FIELDS = (
    *("group", "needs", "default_label_weight", "paper", "when_to_use", "formula"),
    *("min_batch", "one_teacher", "min_maps"),
)
"""Class variables of a method's parameters that are fields of its entry."""


@functools.cache
def serialize_methods() -> dict[str, dict[str, Any]]:
    """The body of a ``MethodOut`` by name."""
    return {
        name: {
            "name": name,
            "object": "method",
            "doc": inspect.getdoc(params) or "",
            **{field: getattr(params, field) for field in _METHOD_FIELDS},
            "params": params.model_json_schema(),
            "compatible": None,
            "reason": None,
            "help": None,
        }
        for name, params in sorted(METHODS.items())
    }


@functools.cache
def serialize_schemes() -> dict[str, dict[str, Any]]:
    """The body of a ``SchemeOut`` by name."""
    return {
        name: {
            "name": name,
            "object": "scheme",
            "doc": inspect.getdoc(params) or "",
            "paper": params.paper,
            "teacher": params.teacher,
            "params": params.model_json_schema(),
        }
        for name, params in sorted(SCHEMES.items())
    }


@functools.cache
def serialize_architectures() -> dict[str, dict[str, Any]]:
    """The body of an ``ArchitectureOut`` by name."""
    ordered = sorted(architectures().items(), key=lambda item: (item[0].partition("/")[0], item[0]))
    return {name: {"object": "architecture", **entry.model_dump()} for name, entry in ordered}


def serialize_compatibility(incompatibility: Incompatibility | None) -> dict[str, Any]:
    """The fields of a ``MethodOut`` about the pair of the query."""
    if incompatibility is None:
        return {"compatible": True}
    return {"compatible": False, "reason": incompatibility.reason, "help": incompatibility.help}


@router.get("/methods", response_model=MethodPage)
def list_methods(
    _: JobReader,
    page_query: PageQueryDep,
    student: Annotated[
        ArchitectureName | None, Query(description="Architecture of the student")
    ] = None,
    teacher: Annotated[
        list[ModelArchitecture] | None,
        Query(max_length=8, description="Architectures of the teachers; several are an ensemble"),
    ] = None,
) -> Response:
    """List all methods, sorted by name. For a pair of networks, say which methods support it.

    With only a student or only teachers, the result considers this network alone.
    """
    entries = list(serialize_methods().values())
    if student or teacher:
        pair = TeacherStudentPair(student, tuple(teacher or ()), teacher_required=False)
        entries = [
            entry | serialize_compatibility(find_incompatibility(entry["name"], pair))
            for entry in entries
        ]
    return paginate_list(entries, page_query)


@router.get("/methods/{name}", response_model=MethodOut)
def get_method(name: str, request: Request, _: JobReader) -> Response:
    """Get a method: its requirements, its paper and the JSON Schema of its parameters."""
    return _entry_response(serialize_methods(), name, "method", request)


@router.get("/schemes", response_model=SchemePage)
def list_schemes(_: JobReader, page_query: PageQueryDep) -> Response:
    """List all schemes, sorted by name."""
    return paginate_list(list(serialize_schemes().values()), page_query)


@router.get("/schemes/{name}", response_model=SchemeOut)
def get_scheme(name: str, request: Request, _: JobReader) -> Response:
    """Get a scheme and the JSON Schema of its parameters."""
    return _entry_response(serialize_schemes(), name, "scheme", request)


@router.get("/architectures", response_model=ArchitecturePage)
def list_architectures(_: JobReader, page_query: PageQueryDep) -> Response:
    """List all architectures, CIFAR networks first, each family sorted by name."""
    return paginate_list(list(serialize_architectures().values()), page_query)


@router.get("/architectures/{name:path}", response_model=ArchitectureOut)
def get_architecture(name: str, request: Request, _: JobReader) -> Response:
    """Get an architecture. Its name may contain a slash."""
    return _entry_response(serialize_architectures(), name, "architecture", request)


def _entry_response(
    entries: dict[str, dict[str, Any]], name: str, noun: str, request: Request
) -> Response:
    if name not in entries:
        raise NotFoundError(noun)
    tag = f"{zlib.crc32(dump_json(entries[name])):08x}"
    return etag_response(request, entries[name], tag)
