"""The catalog: methods, schemes and architectures."""

import zlib
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from api.catalog.schemas import (
    ArchitectureOut,
    ArchitecturePage,
    MethodOut,
    MethodPage,
    SchemeOut,
    SchemePage,
)
from api.catalog.serializers import (
    serialize_architectures,
    serialize_compatibility,
    serialize_methods,
    serialize_schemes,
)
from api.http.auth import JobReader
from api.http.pagination import PageQueryDep, paginate_list
from api.http.problems import NotFoundError
from api.http.responses import dump_json, etag_response
from api.http.routing import v1_router
from kdcore.schema.catalog import ArchitectureName
from kdcore.schema.validation.method_compatibility import TeacherStudentPair, find_incompatibility

router = v1_router("", "catalog")


@router.get("/methods", response_model=MethodPage)
def list_methods(
    _: JobReader,
    page_query: PageQueryDep,
    student: Annotated[
        ArchitectureName | None, Query(description="Architecture of the student")
    ] = None,
    teacher: Annotated[
        list[ArchitectureName] | None,
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
